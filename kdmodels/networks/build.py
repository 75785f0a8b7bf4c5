"""An experiment's description of a network, made into a module."""

from collections import OrderedDict
from itertools import pairwise
from math import prod

from torch import nn

from kdmodels.architectures import ARCHITECTURES
from kdmodels.experiment import Network
from kdmodels.networks.budget import within_budget
from kdmodels.networks.cifar import cifar
from kdmodels.networks.compact import Shape
from kdmodels.networks.foreign import MAKERS, foreign
from kdmodels.networks.layers import Dropout, Normalise
from kdmodels.randomness import forked

SMALLEST = 4  # a map of fewer rows or columns is not pooled any more


def build(
    network: Network,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    mean: list[float],
    std: list[float],
    pretrained: bool = True,
) -> nn.Sequential:
    """A network whose first layer is `normalise`; nothing is drawn from torch's global generator.

    The hidden blocks of a network of ours are the children `block1`, `block2`, … and its last layer is `head`; one from
    elsewhere is the child `network`. Weights are any draw until `initialise` makes them a function of a seed.

    Args:
        input_shape: (C, H, W) of one image in [0, 1].
        mean, std: per channel, of the training split; they become the first layer.
        pretrained: False leaves `network.weights` out: the weights are filled in from elsewhere.

    Raises:
        UserError: a budget is not met, or a network from elsewhere can't be had, or takes no such images.
    """
    with forked():
        if network.kind in MAKERS:
            whole: nn.Sequential = foreign(
                network, input_shape=input_shape, classes=classes, mean=mean, std=std, pretrained=pretrained
            )
        else:
            layers = _own(network, input_shape, classes)
            whole = nn.Sequential(OrderedDict(normalise=Normalise(mean, std), **layers))
    return whole


def _own(network: Network, input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """The layers after the normalisation."""
    if network.mlp:
        return _layers(network.mlp, network.dropout, input_shape, classes)
    if network.conv:
        return _convolutions(network.conv, input_shape, classes)
    if network.name:
        return cifar(ARCHITECTURES[network.name], input_shape, classes)
    compact = within_budget(network, input_shape=input_shape, classes=classes).compact
    assert compact is not None
    assert compact.width is not None
    assert compact.depth is not None
    return Shape(compact.block, compact.width, compact.depth, input_shape, classes).layers()


def _layers(hidden: list[int], dropout: float, input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    widths = [prod(input_shape), *hidden]
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        block = OrderedDict(linear=nn.Linear(inputs, outputs), relu=nn.ReLU())
        if dropout:
            block["dropout"] = Dropout(dropout, outputs)
        layers[f"block{number}"] = nn.Sequential(block)
    return layers | {"head": nn.Linear(widths[-1], classes)}


def _convolutions(hidden: list[int], input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Blocks of convolution, batch norm, ReLU and, as long as the map is large enough, 2x2 pooling; then the mean."""
    channels, *size = input_shape
    widths = [channels, *hidden]
    layers: dict[str, nn.Module] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        block = OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            norm=nn.BatchNorm2d(outputs),
            relu=nn.ReLU(),
        )
        if min(size) >= SMALLEST:
            block["pool"] = nn.MaxPool2d(2)
            size = [length // 2 for length in size]
        layers[f"block{number}"] = nn.Sequential(block)
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], classes)}


def parameters(network: nn.Module) -> int:
    """How many trainable numbers the network has."""
    return sum(p.numel() for p in network.parameters())
