"""Optimisers and learning-rate schedules by torch's names."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from torch import Tensor

from kdmodels.terms import Term

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(optimizer: dict[str, dict[str, Any]], tensors: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The one optimiser that the mapping names, with torch's own arguments; fused: one kernel a step."""
    ((name, arguments),) = optimizer.items()
    return OPTIMIZERS[name](tensors, fused=True, **arguments)


def learning_rate_factor(schedule: dict[str, dict[str, Any]] | None, epoch: float, epochs: int) -> float:
    """What the learning rate is multiplied by at a point of training, `epoch` of `epochs` being done.

    >>> [round(learning_rate_factor({"cosine": {"warmup": 1}}, epoch, 5), 2) for epoch in (0.5, 1, 3, 5)]
    [0.5, 1.0, 0.5, 0.0]
    >>> [learning_rate_factor({"step": {"at": [2], "factor": 0.1}}, epoch, 5) for epoch in (1.9, 2)]
    [1.0, 0.1]
    """
    if schedule is None:
        return 1.0
    ((name, arguments),) = schedule.items()
    if name == "step":
        return float(arguments["factor"] ** sum(epoch >= at for at in arguments["at"]))
    warmup = arguments.get("warmup", 0)
    if epoch < warmup:
        return epoch / warmup
    return 0.5 * (1 + cos(pi * (epoch - warmup) / (epochs - warmup)))


def weight_factor(term: Term, done: float) -> float:
    """What a term's weight is multiplied by when a share `done` of the training is over.

    >>> term = Term(loss="hard_labels", warmup=0.5, cosine=True)
    >>> [round(weight_factor(term, done), 2) for done in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < term.warmup:
        return done / term.warmup
    return 0.5 * (1 + cos(pi * (done - term.warmup) / (1 - term.warmup))) if term.cosine else 1.0
