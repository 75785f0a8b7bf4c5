"""Augmentations of a user, for tests: one that works, and some that a plan must refuse."""

import torch
from torch import Generator, Tensor


def darken(image: Tensor, generator: Generator, *, strength: float = 0.5, floor: bool = False) -> Tensor:
    """Multiply an image by a random factor, and subtract the mean if `floor` is set."""
    darker = image * (1 - strength * torch.rand((), generator=generator))
    return (darker - darker.mean()).clamp(0, 1) if floor else darker


def noisy(image: Tensor, generator: Generator) -> Tensor:
    return (image + torch.rand(image.shape)).clamp(0, 1)  # draws from the global generator


def in_place(image: Tensor, generator: Generator) -> Tensor:
    return image.mul_(0.5)


def bright(image: Tensor, generator: Generator) -> Tensor:
    return image + 1


def empty(image: Tensor, generator: Generator) -> Tensor:
    return image / (image - image)


def cropped(image: Tensor, generator: Generator) -> Tensor:
    return image[:, 1:]


def doubled(image: Tensor, generator: Generator) -> Tensor:
    return image.double()


def nothing(image: Tensor, generator: Generator) -> None:
    return None


def broken(image: Tensor, generator: Generator) -> Tensor:
    raise RuntimeError("no image")
