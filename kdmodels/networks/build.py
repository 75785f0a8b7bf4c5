"""The catalogue: an experiment's description of a network, made into a module."""

from collections import OrderedDict
from itertools import pairwise
from math import prod

from torch import nn

from kdmodels.experiment import Network
from kdmodels.networks.layers import Dropout, Normalise

SMALLEST = 4  # a map of fewer rows or columns is not pooled any more


def build(
    network: Network, *, input_shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
) -> nn.Sequential:
    """A network whose hidden blocks are the children `block1`, `block2`, … and whose last layer is `head`.

    Weights are torch's default draw until `initialise` makes them a function of a seed.

    Args:
        input_shape: (C, H, W) of one image in [0, 1].
        mean, std: per channel, of the training split; they become the first layer.
    """
    hidden = _convolutions(network, input_shape) if network.conv else _layers(network, input_shape)
    width = (network.conv or network.mlp or [])[-1]
    return nn.Sequential(OrderedDict(normalise=Normalise(mean, std), **hidden, head=nn.Linear(width, classes)))


def _layers(network: Network, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (inputs, outputs) in enumerate(pairwise([prod(input_shape), *(network.mlp or [])]), start=1):
        block = OrderedDict(linear=nn.Linear(inputs, outputs), relu=nn.ReLU())
        if network.dropout:
            block["dropout"] = Dropout(network.dropout, outputs)
        layers[f"block{number}"] = nn.Sequential(block)
    return layers


def _convolutions(network: Network, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    """Blocks of convolution, batch norm, ReLU and, as long as the map is large enough, 2x2 pooling; then the mean."""
    channels, *size = input_shape
    layers: dict[str, nn.Module] = {}
    for number, (inputs, outputs) in enumerate(pairwise([channels, *(network.conv or [])]), start=1):
        block = OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            norm=nn.BatchNorm2d(outputs),
            relu=nn.ReLU(),
        )
        if min(size) >= SMALLEST:
            block["pool"] = nn.MaxPool2d(2)
            size = [length // 2 for length in size]
        layers[f"block{number}"] = nn.Sequential(block)
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}


def parameters(network: nn.Module) -> int:
    """How many trainable numbers the network has."""
    return sum(p.numel() for p in network.parameters())
