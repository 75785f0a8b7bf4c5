"""The first layers of networks, and a dropout layer whose mask is an input of the training step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.randomness import StepRandomness


class Normalise(nn.Module):
    """Layer that computes (x - mean) / std for each channel of images x. The mean and std are buffers.

    Args:
        mean, std: Mean and standard deviation of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))  # (C, 1, 1)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))  # (C, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Resize(nn.Module):
    """Layer that resizes images (B, C, H, W) with bilinear interpolation and antialiasing.

    Args:
        size: Height and width of the resized images.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(images, self.size, mode="bilinear", antialias=True)


class Dropout(StepRandomness):
    """Dropout layer whose mask is an input of the training step, so that the layer needs no global generator.

    The buffer `drawn` (B, width) is the mask. In every step, the trainer replaces the buffer by the result of `draw`,
    using `torch.func.functional_call`.

    Args:
        p: Probability that a feature is set to zero.
        width: Number of features of an example.
    """

    drawn: Tensor

    def __init__(self, p: float, width: int) -> None:
        super().__init__()
        self.p, self.width = p, width
        self.register_buffer("drawn", torch.ones(width), persistent=False)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random mask (B, width) of zeros and ones.

        Args:
            indices: Indices of the batch's examples, (B,). Only their number is used.
            generator: Generator of the random numbers.
        """
        return (torch.rand(len(indices), self.width, generator=generator) >= self.p).float()

    def forward(self, features: Tensor) -> Tensor:
        return features * self.drawn / (1 - self.p) if self.training else features
