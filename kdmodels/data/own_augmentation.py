"""Augmentations that an experiment names as `module:function`. They are functions of the user.

The function gets one image and one generator at a time. The augmented image therefore depends on the image, its index
and the view only, and not on the batch that contains the image.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from kdmodels.errors import UserError
from kdmodels.experiment.augmentation import Function
from kdmodels.randomness import generator_for, isolated_rng
from kdmodels.user_imports import checked_arguments, errors_of_user, import_code

FIELD = "augment"
IMAGES = 4  # number of random images in a trial
Augment = Callable[[Tensor, Generator], Tensor]


def augment_by_user(images: Tensor, numbers: Tensor, function: Function, seed: int, view: int) -> Tensor:
    """Return augmented images, (B, C, H, W), on the device of the given images. The function runs on the CPU.

    Args:
        images: Images, (B, C, H, W) float32 in [0, 1].
        numbers: The indices of the images in their split, (B,), on the CPU.
        function: The user's function, with its arguments.
        seed: The seed of the random draws.
        view: The number of the view.

    Raises:
        UserError: The function raises an error, or returns an image that is not allowed.
        UsageError: The function can't be imported, does not exist, or is not allowed to run.
    """
    augment = _imported(function)
    augmented = [
        _augmented(augment, function.name, image, generator_for(seed, function.name, view, number))
        for image, number in zip(images.cpu(), numbers.tolist(), strict=True)
    ]
    return torch.stack(augmented).to(images.device)


def check(field: str, function: Function, input_shape: tuple[int, int, int]) -> None:
    """Try an augmentation on random images.

    Args:
        field: The field that names the augmentation, for error messages.
        function: The user's function, with its arguments.
        input_shape: The shape of an image, (C, H, W).

    Raises:
        UserError: The function raises an error, does not accept the arguments, returns an image that is not allowed,
            changes the given image, or returns another image for the same image and the same state of the generator.
        UsageError: The function can't be imported, does not exist, or is not allowed to run.
    """
    images = torch.rand(IMAGES, *input_shape, generator=generator_for(0, "own augmentation"))
    try:
        augment = _imported(function)
        for number, image in enumerate(images):
            given = image.clone()
            # The global generators have other states in the second call, so a function that uses them is detected.
            first, second = (_isolated(augment, function.name, given, number, call) for call in ("first", "second"))
            if not torch.equal(given, image):
                raise UserError(f"{FIELD}: {function.name} changes the given image. Allowed: a new image")
            if not torch.equal(first, second):
                raise UserError(
                    f"{FIELD}: {function.name} returns different images for the same image and the same state of the "
                    "generator. Allowed: random draws from the given generator only"
                )
    except UserError as error:
        raise type(error)(f"{field}: {str(error).removeprefix(f'{FIELD}: ')}") from error


def _isolated(augment: Augment, name: str, image: Tensor, number: int, call: str) -> Tensor:
    with isolated_rng(generator_for(number, call)):
        return _augmented(augment, name, image, generator_for(number, "draws"))


def _imported(function: Function) -> Augment:
    target = import_code(FIELD, function.name)
    arguments = checked_arguments(FIELD, function.name, target, function.arguments, given=2)

    def augment(image: Tensor, generator: Generator) -> Tensor:
        with errors_of_user(FIELD, function.name):
            image = target(image, generator, **arguments)
        return image

    return augment


def _augmented(augment: Augment, name: str, image: Tensor, generator: Generator) -> Tensor:
    result: object = augment(image, generator)
    if not isinstance(result, Tensor) or result.shape != image.shape or result.dtype != image.dtype:
        kind = f"{tuple(result.shape)} {result.dtype}" if isinstance(result, Tensor) else type(result).__name__
        expected = f"{tuple(image.shape)} {image.dtype}"
        raise UserError(f"{FIELD}: {name}: expected an image {expected}, got {kind}")
    if not ((result >= 0) & (result <= 1)).all():  # false for NaN too
        raise UserError(f"{FIELD}: {name} returns pixels outside [0, 1], or NaN. Allowed: pixels from 0 to 1")
    return result
