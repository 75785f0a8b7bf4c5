"""The search for hyperparameters: the trials that it proposes, and the choice of the best trial."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import torch
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import QMCSampler
from optuna.trial import create_trial

from kdmodels.experiment.terms import Term
from kdmodels.experiment.tune import LR, Axis, Values, tuned_terms
from kdmodels.randomness import generator_for
from kdmodels.training.replica import Replica
from kdmodels.training.setting import Setting

warnings.filterwarnings("ignore", category=ExperimentalWarning, message="QMCSampler")


def seed_of_search(seed: int) -> int:
    """Return the seed with which all trials of a search are trained.

    Because all trials have the same initial weights and batches, their accuracies are easier to compare. The seed is
    derived from the seed of the experiment, and almost certainly differs from the seeds of the students.

    Args:
        seed: Seed of the experiment.
    """
    return int(torch.randint(2**31, (), generator=generator_for(seed, "search")))


def propose(axes: Sequence[Axis], trials: int, seed: int) -> list[Values]:
    """Return the trials of a search. The first trial has the values of the experiment file.

    The other trials are points of a scrambled Sobol sequence, which covers the space more evenly than random points.
    All points are known before the training, so all trials can be trained at the same time.

    Args:
        axes: The axes of the search.
        trials: Number of trials.
        seed: Seed of the experiment.

    References:
        Bergstra, Bengio, "Random Search for Hyper-Parameter Optimization", 2012, section 5 (quasi-random sequences).

    >>> [trial["lr"] for trial in propose([Axis("lr", 0.1, 10, 1)], 4, seed=0)][0]
    1
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, BaseDistribution] = {
        axis.name: FloatDistribution(axis.low, axis.high, log=True) for axis in axes
    }
    study = optuna.create_study(sampler=QMCSampler(scramble=True, seed=seed_of_search(seed)))
    # The sampler takes the search space from a finished trial. The values of this trial do not affect the points.
    any_values = {axis.name: axis.low for axis in axes}
    study.add_trial(create_trial(params=any_values, distributions=distributions, value=0.0))
    points = [study.ask(distributions).params for _ in range(trials - 1)]
    return [{axis.name: axis.value for axis in axes}, *points]


def setting_of_trial(values: Values, terms: Sequence[Term]) -> Setting:
    """Return the learning rate and the terms of a trial.

    Args:
        values: The values of the trial, by the name of the axis.
        terms: The terms of the variant. Weights `auto` are allowed, and are calibrated later.
    """
    return Setting(values[LR], tuple(tuned_terms(terms, values)))


@dataclass(frozen=True)
class Trial:
    """A trial of a search, after its training.

    Attributes:
        values: The values of the trial, by the name of the axis.
        accuracy: Accuracy on the inner split. `None` if the trial diverged.
    """

    values: Values
    accuracy: float | None


def results(proposals: Sequence[Values], replicas: Sequence[Replica]) -> list[Trial]:
    """Return the trials with their accuracies.

    Args:
        proposals: The values of each trial.
        replicas: The trained replica of each trial, in the same order.
    """
    return [
        Trial(values, None if replica.diverged else replica.figures["val/accuracy"])
        for values, replica in zip(proposals, replicas, strict=True)
    ]


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest accuracy.

    If several trials have the highest accuracy, return the first of them. If all trials diverged, return the first
    trial.

    >>> best([Trial({"lr": 1}, 0.5), Trial({"lr": 2}, 0.9), Trial({"lr": 3}, None), Trial({"lr": 4}, 0.9)])
    Trial(values={'lr': 2}, accuracy=0.9)
    """
    return max(trials, key=lambda trial: -1.0 if trial.accuracy is None else trial.accuracy)
