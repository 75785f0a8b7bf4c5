"""Choice of the memory layout in which a network takes images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

KNOWN = ("kdmodels.", "torch.nn.", "torchvision.")
"""Packages whose layers take any memory layout. Other layers may use `Tensor.view`, which needs the usual layout."""


def layout_of(network: nn.Module, *, training: bool = False) -> Callable[[Tensor], Tensor]:
    """Return a function that converts images (B, C, H, W) to the fastest memory layout for a network.

    The conversion does not change the values of the images. On the CPU, convolutions take up to 60 % less time in the
    channels-last layout (benchmarks/LOG.md). If a network has the attribute `channels_last = False`, its images keep
    the usual layout.

    Args:
        network: Network whose layers determine the layout. The network does not change.
        training: Whether the images are for training. In training, torch's own batch norm is imprecise in the
            channels-last layout (see `kdmodels.networks.batch_norm`). If True, the images of a network with this batch
            norm keep the usual layout.
    """
    layers = list(network.modules())
    suitable = (
        getattr(network, "channels_last", True)
        and any(isinstance(layer, nn.Conv2d) for layer in layers)
        and all(type(layer).__module__.startswith(KNOWN) for layer in layers)
        and not (training and any(type(layer) is nn.BatchNorm2d for layer in layers))
    )
    if not suitable:
        return lambda images: images
    # Use `to`, because `contiguous` would not change images with one channel, and convolutions would then be slow.
    return lambda images: images.to(memory_format=torch.channels_last) if images.is_cpu else images
