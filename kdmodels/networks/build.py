"""Construction of a network from its description in an experiment file."""

from collections import OrderedDict
from itertools import pairwise
from math import prod

from torch import nn

from kdmodels.experiment import Network
from kdmodels.experiment.architectures import ARCHITECTURES
from kdmodels.networks.batch_norm import BatchNorm2d
from kdmodels.networks.budget import within_budget
from kdmodels.networks.cifar import cifar
from kdmodels.networks.compact import Shape
from kdmodels.networks.external import BUILDERS, build_external
from kdmodels.networks.layers import Dropout, Normalise
from kdmodels.randomness import isolated_rng

SMALLEST = 4  # maps with fewer rows or columns are not pooled


def build(
    network: Network,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    mean: list[float],
    std: list[float],
    pretrained: bool = True,
) -> nn.Sequential:
    """Build a network whose first layer `normalise` normalises the images.

    In a network of kdflow, the hidden blocks are named `block1`, `block2`, … and the last layer is named `head`. A
    network of a library or of the user becomes the child module `network`.

    Weights that are not pretrained are random. To draw these weights from a generator, call `initialise`. The state of
    torch's global generator does not change.

    Args:
        network: Description of the network.
        input_shape: Shape of one image, (C, H, W).
        classes: Number of classes.
        mean, std: Mean and standard deviation of each channel, for the first layer. A network of torchvision gets a
            grey image as 3 equal channels. For such a network, each list can have 1 number or 3.
        pretrained: Whether to load the pretrained weights that `network.weights` names. Pass False if stored weights
            are loaded afterwards.

    Raises:
        UserError: No compact network is within the budget, the network can't be built, or the network does not take
            images of this shape.
    """
    with isolated_rng():
        if network.kind in BUILDERS:
            return build_external(
                network,
                lambda repeats: Normalise(*(v * (repeats if len(v) == input_shape[0] else 1) for v in (mean, std))),
                input_shape=input_shape,
                classes=classes,
                pretrained=pretrained,
            )
        layers = _layers(network, input_shape, classes)
        return nn.Sequential(OrderedDict(normalise=Normalise(mean, std), **layers))


def _layers(network: Network, input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Return the layers of a network of kdflow, by name. The layer that normalises the input images is not included."""
    if network.mlp:
        return _perceptron(network.mlp, network.dropout, input_shape, classes)
    if network.conv:
        return _convolutions(network.conv, input_shape, classes)
    if network.name:
        return cifar(ARCHITECTURES[network.name], input_shape, classes)
    compact = within_budget(network, input_shape=input_shape, classes=classes).compact
    assert compact is not None
    assert compact.width is not None
    assert compact.depth is not None
    return Shape(compact.block, compact.width, compact.depth, input_shape, classes).layers()


def _perceptron(
    hidden: list[int], dropout: float, input_shape: tuple[int, int, int], classes: int
) -> dict[str, nn.Module]:
    widths = [prod(input_shape), *hidden]
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        block = OrderedDict(linear=nn.Linear(inputs, outputs), relu=nn.ReLU())
        if dropout:
            block["dropout"] = Dropout(dropout, outputs)
        layers[f"block{number}"] = nn.Sequential(block)
    return layers | {"head": nn.Linear(widths[-1], classes)}


def _convolutions(hidden: list[int], input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Return convolutional blocks, the mean over positions and the linear last layer, by name.

    Each block is a convolution, batch norm and a ReLU. If the map has at least 4 rows and columns, 2x2 pooling follows.
    """
    channels, *size = input_shape
    widths = [channels, *hidden]
    layers: dict[str, nn.Module] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        block = OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
            norm=BatchNorm2d(outputs),
            relu=nn.ReLU(),
        )
        if min(size) >= SMALLEST:
            block["pool"] = nn.MaxPool2d(2)
            size = [length // 2 for length in size]
        layers[f"block{number}"] = nn.Sequential(block)
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(widths[-1], classes)}


def parameters(network: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(p.numel() for p in network.parameters())
