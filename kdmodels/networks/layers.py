"""Layers that carry no hidden state: normalisation of the input, and dropout with a mask that is handed in."""

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x - mean) / std per channel; the figures are of the training split and travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))  # (C, 1, 1)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))  # (C, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Dropout(nn.Module):
    """Dropout whose mask is handed in by the training step, so that no global generator is drawn from.

    `drawn` (B, width) is replaced at every step by the trainer (`torch.func.functional_call`).
    """

    drawn: Tensor

    def __init__(self, p: float, width: int) -> None:
        super().__init__()
        self.p, self.width = p, width
        self.register_buffer("drawn", torch.ones(width), persistent=False)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """A mask (B, width) of zeros and ones for the examples of these indices (B,)."""
        return (torch.rand(len(indices), self.width, generator=generator) >= self.p).float()

    def forward(self, features: Tensor) -> Tensor:
        return features * self.drawn / (1 - self.p) if self.training else features
