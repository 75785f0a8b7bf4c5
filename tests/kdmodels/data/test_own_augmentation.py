"""Augmentations of the user are replayable views, and are checked before any training."""

from typing import Any

import pytest
import torch

from kdmodels.data import Split
from kdmodels.data.augment import Augmentation, View
from kdmodels.data.own_augmentation import check
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Data
from kdmodels.experiment.augmentation import Function
from kdmodels.randomness import generator_for, isolated_rng
from tests.support.augmentations import darken

OWN = "tests.support.augmentations:"
DARKEN: dict[str, Any] = {f"{OWN}darken": {"strength": 0.8}}
SPLIT = Split(
    torch.randint(256, (12, 3, 6, 5), generator=generator_for(0, "pixels"), dtype=torch.uint8),
    torch.arange(12) % 3,
    top=255,
)


def view(*operations: dict[str, Any], seed: int = 0, number: int = 0) -> View:
    return View(SPLIT, Data.model_validate({"source": "digits", "augment": list(operations)}).augment, seed, number)


def test_each_image_has_a_generator_of_its_own() -> None:
    shown = view(DARKEN, seed=3, number=2).batch(torch.arange(12))
    for index in range(12):
        generator = generator_for(3, f"{OWN}darken", 2, index)
        assert torch.equal(shown[index], darken(SPLIT.images[index], generator, strength=0.8))
    assert len({image.max().item() / own.max().item() for image, own in zip(shown, SPLIT.images, strict=True)}) > 6


@pytest.mark.parametrize("operations", [[DARKEN], [{"flip": True}, DARKEN, {"mixup": 0.4}]])
def test_an_image_is_the_same_in_every_batch_and_in_every_state_of_the_global_generator(
    operations: list[dict[str, Any]],
) -> None:
    whole = view(*operations).batch(torch.arange(12))
    rows = torch.tensor([[7, 2], [2, 11]])
    with isolated_rng(generator_for(5, "other")):
        assert torch.equal(view(*operations).batch(rows), whole[rows])
    assert not torch.equal(view(*operations, number=1).batch(rows), whole[rows])
    assert not torch.equal(view(*operations, seed=1).batch(rows), whole[rows])


def test_views_are_counted_as_for_other_augmentations() -> None:
    operations = Data.model_validate({"source": "digits", "augment": [DARKEN]}).augment
    augmentation = Augmentation(operations, 0, views=2)
    first, second, third = (augmentation.view(SPLIT, epoch).batch(torch.arange(12)) for epoch in (1, 2, 3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("arguments", [{}, {"strength": 1, "floor": True}])
def test_a_pure_function_is_accepted(arguments: dict[str, Any]) -> None:
    check("data.augment", Function(name=f"{OWN}darken", arguments=arguments), (3, 6, 5))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("noisy", {}, "returns different images for the same image and the same state of the generator"),
        ("in_place", {}, "changes the given image. Allowed: a new image"),
        ("bright", {}, "returns pixels outside [0, 1], or NaN. Allowed: pixels from 0 to 1"),
        ("empty", {}, "returns pixels outside [0, 1], or NaN"),
        ("cropped", {}, "expected an image (3, 6, 5) torch.float32, got (3, 5, 5) torch.float32"),
        ("doubled", {}, "expected an image (3, 6, 5) torch.float32, got (3, 6, 5) torch.float64"),
        ("nothing", {}, "expected an image (3, 6, 5) torch.float32, got NoneType"),
        ("broken", {}, "raised RuntimeError: no image"),
        ("darken", {"strenght": 1}, "has no argument 'strenght'. Did you mean 'strength'?"),
        ("darken", {"strength": "1"}, "strength: expected float, got '1'"),
    ],
)
def test_others_are_refused_before_training(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check("data.augment", Function(name=f"{OWN}{name}", arguments=arguments), (3, 6, 5))
    assert str(caught.value).startswith(f"data.augment: {OWN}{name}")
    assert message in str(caught.value)


def test_functions_that_a_module_only_imports_do_not_run() -> None:
    with pytest.raises(UsageError, match=r"^data\.augment: tests\.support\.augmentations has no"):
        check("data.augment", Function(name=f"{OWN}dark"), (3, 6, 5))
    with pytest.raises(UsageError, match=r"is defined in tests\.support\.augmentations"):
        check("data.augment", Function(name="tests.kdmodels.data.test_own_augmentation:darken"), (3, 6, 5))
