"""Schedules of the learning rate and of the weights of an objective's terms."""

from math import cos, pi
from typing import Any

from kdmodels.experiment.terms import Term


def learning_rate_factor(schedule: dict[str, dict[str, Any]] | None, epoch: float, epochs: int) -> float:
    """Return the factor that multiplies the learning rate at a point of the training.

    Args:
        schedule: Mapping with one entry, from the name of the schedule to its arguments. If None, the factor is 1.
        epoch: Number of epochs that are finished at this point, e.g. 1.5.
        epochs: Number of epochs of the training.

    >>> [round(learning_rate_factor({"cosine": {"warmup": 1}}, epoch, 5), 2) for epoch in (0.5, 1, 3, 5)]
    [0.5, 1.0, 0.5, 0.0]
    >>> [learning_rate_factor({"step": {"at": [2], "factor": 0.1}}, epoch, 5) for epoch in (1.9, 2)]
    [1.0, 0.1]
    >>> one_cycle = {"one_cycle": {"rise": 0.4, "start_divisor": 25, "end_divisor": 10}}
    >>> [round(learning_rate_factor(one_cycle, epoch, 5), 3) for epoch in (0, 1, 2, 5)]
    [0.04, 0.52, 1.0, 0.004]
    """
    if schedule is None:
        return 1.0
    ((name, arguments),) = schedule.items()
    warmup = arguments.get("warmup", 0)
    if epoch < warmup:
        return epoch / warmup
    match name:
        case "step":
            return float(arguments["factor"] ** sum(epoch >= at for at in arguments["at"]))
        case "cosine":
            return _cosine(1.0, 0.0, (epoch - warmup) / (epochs - warmup))
        case "one_cycle":
            peak, first = arguments["rise"] * epochs, 1 / arguments["start_divisor"]
            if epoch < peak:
                return _cosine(first, 1.0, epoch / peak)
            return _cosine(1.0, first / arguments["end_divisor"], (epoch - peak) / (epochs - peak))
    return 1.0


def weight_factor(term: Term, done: float) -> float:
    """Return the factor that multiplies a term's weight at a point of the training.

    Args:
        term: The term.
        done: Share of the training that is done at this point, from 0 to 1.

    >>> term = Term(loss="hard_labels", warmup=0.5, cosine=True)
    >>> [round(weight_factor(term, done), 2) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < term.warmup:
        return done / term.warmup
    return _cosine(1.0, 0.0, (done - term.warmup) / (1 - term.warmup)) if term.cosine else 1.0


def _cosine(first: float, last: float, done: float) -> float:
    """Return a point on the half cosine from `first` to `last`. `done` is the share of the way, from 0 to 1."""
    return last + (first - last) * 0.5 * (1 + cos(pi * done))
