"""Batches of one: there is none where `batch` is above one, and what cannot learn from one says so before training."""

from math import isfinite
from typing import Any

import pytest
import torch

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network, Recipe
from kdmodels.experiment.presets import PRESETS
from kdmodels.knowledge import distil_knowledge
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for
from kdmodels.training import Replica, fit

SHAPE: dict[str, Any] = {"input_shape": (1, 8, 8), "classes": 3, "mean": [0.5], "std": [0.25]}
PLACES = ["first", "middle", "deepest", "last"]
ON_MAPS = ("attention", "nst", "fsp", "review", "ickd", "ab", "ofd")
ALONE = ["hard-labels", "label-smoothing", "kd", "kd-reverse", "kd-standardised", "hinton", "logit-regression", "dkd",
         "vid", "crd", "adversarial"]  # fmt: skip


def split(examples: int, purpose: str) -> Split:
    generator = generator_for(7, purpose)
    return Split(torch.rand(examples, 1, 8, 8, generator=generator), torch.randint(3, (examples,), generator=generator))


def trained(name: str, shape: dict[str, Any], train: Split, validation: Split, batch: int) -> Replica:
    """One seed of a student with a preset, its teacher being of the same kind and wider."""
    ((kind, widths),) = shape.items()
    teacher = build(Network.model_validate({kind: [2 * width for width in widths]}), **SHAPE)
    initialise(teacher, generator_for(1, "teacher"))
    places = PLACES if kind == "conv" else ["middle", "deepest", "last"]
    known = (distil_knowledge(teacher, train, places), distil_knowledge(teacher, validation, places))
    student = build(Network.model_validate(shape), **SHAPE)
    recipe = Recipe(epochs=1, batch=batch)
    return fit(student, PRESETS[name].published, recipe, train, validation, seeds=[0], knowledge=known)[0]


@pytest.mark.parametrize("batch", [2, 8])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_on_a_number_of_examples_that_leaves_a_remainder_of_one(name: str, batch: int) -> None:
    """Batch norm cannot learn from one example. One example is enough to measure on."""
    replica = trained(name, {"conv": [2, 3, 4]}, split(17, "train"), split(1, "validation"), batch=batch)
    assert replica.diverged is None
    assert all(isfinite(figure) for figure in replica.figures.values())


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ON_MAPS])
def test_a_preset_trains_with_batch_size_1_or_explains_why_not(name: str) -> None:
    train, validation = split(5, "train"), split(3, "validation")
    if name in ALONE:
        replica = trained(name, {"mlp": [5]}, train, validation, batch=1)
        assert replica.diverged is None
        assert all(isfinite(figure) for figure in replica.figures.values())
    else:
        with pytest.raises(UserError, match=r"^batch: 1: "):
            trained(name, {"mlp": [5]}, train, validation, batch=1)


@pytest.mark.parametrize("name", ON_MAPS)
def test_a_preset_with_batch_norm_refuses_batch_size_1(name: str) -> None:
    with pytest.raises(UserError, match=r"^batch: 1: batch norm can't learn from one example\. Allowed: 2 or more"):
        trained(name, {"conv": [2, 3, 4]}, split(5, "train"), split(3, "validation"), batch=1)
