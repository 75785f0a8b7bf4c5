"""The setting of a replica. Replicas that are trained together can have different settings, e.g. trials of a search."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdmodels.experiment import Recipe
from kdmodels.experiment.terms import Term

Varied = dict[str, dict[str, Tensor]]
"""Hyperparameters that differ between S replicas: one tensor (S,) by the names of the loss and the hyperparameter."""


@dataclass(frozen=True)
class Setting:
    """The learning rate and the objective of one replica.

    Attributes:
        lr: Learning rate, before the schedule.
        terms: Terms of the objective. All replicas of a training have the same losses in the same order.
    """

    lr: float
    terms: tuple[Term, ...]


def setting_of(recipe: Recipe, terms: Sequence[Term]) -> Setting:
    """Return the setting with the learning rate of a recipe and with these terms."""
    return Setting(recipe.lr, tuple(terms))


def varied(settings: Sequence[Setting]) -> Varied:
    """Return the hyperparameters that differ between settings, with one value per setting.

    >>> hot, cold = (Term.model_validate({"soft_targets": {"temperature": number}}) for number in (8, 2))
    >>> varied([Setting(0.1, (hot,)), Setting(0.1, (cold,))])
    {'soft_targets': {'temperature': tensor([8., 2.])}}
    """
    numbers: Varied = {}
    for terms in zip(*(setting.terms for setting in settings), strict=True):
        for name in terms[0].hyperparameters:
            values = [term.hyperparameters[name] for term in terms]
            if len(set(values)) > 1:
                numbers.setdefault(terms[0].loss, {})[name] = torch.tensor([float(value) for value in values])
    return numbers
