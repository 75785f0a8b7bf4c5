"""How images lie in memory when a network takes them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

KNOWN = ("kdmodels.", "torch.nn.", "torchvision.")
"""Whose layers take any layout; another's may read an image as one row of numbers (`Tensor.view`), which fails."""


def layout_of(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """What lays images (B, C, H, W) out for a network, values unchanged: on the CPU channels last.

    Convolutions take up to 60 % less time so (benchmarks/LOG.md). For training see `kdmodels.networks.batch_norm` too.
    """
    layers = list(network.modules())
    convolutional = any(isinstance(layer, nn.Conv2d) for layer in layers)
    if not convolutional or not all(type(layer).__module__.startswith(KNOWN) for layer in layers):
        return lambda images: images
    # Not `contiguous`, which leaves images of one channel as they are, and convolutions then choose the slow layout.
    return lambda images: images.to(memory_format=torch.channels_last) if images.is_cpu else images
