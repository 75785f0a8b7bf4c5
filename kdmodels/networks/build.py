"""The catalogue: an experiment's description of a network, made into a module."""

from collections import OrderedDict
from math import prod

from torch import nn

from kdmodels.experiment import Network
from kdmodels.networks.layers import Dropout, Normalise


def build(
    network: Network, *, input_shape: tuple[int, int, int], classes: int, mean: list[float], std: list[float]
) -> nn.Sequential:
    """A network whose hidden blocks are the children `block1`, `block2`, … and whose last layer is `head`.

    Weights are torch's default draw until `initialise` makes them a function of a seed.

    Args:
        input_shape: (C, H, W) of one image in [0, 1].
        mean, std: per channel, of the training split; they become the first layer.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise(mean, std), flatten=nn.Flatten())
    width = prod(input_shape)
    for number, hidden in enumerate(network.mlp, start=1):
        block = OrderedDict(linear=nn.Linear(width, hidden), relu=nn.ReLU())
        if network.dropout:
            block["dropout"] = Dropout(network.dropout, hidden)
        layers[f"block{number}"] = nn.Sequential(block)
        width = hidden
    layers["head"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def parameters(network: nn.Module) -> int:
    """How many trainable numbers the network has."""
    return sum(p.numel() for p in network.parameters())
