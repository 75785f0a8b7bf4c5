"""Published networks for small images: residual networks, VGG, MobileNetV2 and ShuffleNet.

The networks take images of at least 8 x 8 with any number of channels. The stages of a network are its hidden blocks,
named `block1`, `block2`, …
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from kdmodels.experiment.architectures import Architecture
from kdmodels.networks.batch_norm import BatchNorm2d
from kdmodels.networks.blocks import EXPANSION, InvertedBlock, ShuffleBlock, shuffle, unit

SMALLEST = 8  # a VGG does not pool maps with fewer rows or columns


def cifar(architecture: Architecture, input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Return the layers of a published network, by name. The layer that normalises the input images is not included.

    If the input and output of a residual network's block differ in shape, the block's shortcut is a 1x1 convolution
    with batch norm. The papers that compare distillation losses on these networks use the same shortcut. MobileNetV2
    and ShuffleNet have the strides, activations and widths of these papers.

    References:
        He et al., "Deep residual learning for image recognition", 2016, sections 4.1 and 4.2.
        Zagoruyko & Komodakis, "Wide residual networks", 2016, section 2.
        Simonyan & Zisserman, "Very deep convolutional networks", 2015.
        Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018.
        Zhang et al., "ShuffleNet: an extremely efficient convolutional neural network for mobile devices", 2018.
        Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design", 2018.
        Tian et al., "Contrastive representation distillation", 2020, for forms that the other papers do not describe.
    """
    layers = {
        "resnet": _resnet,
        "bottleneck": _bottleneck,
        "wide": _wide,
        "vgg": _vgg,
        "mobilenetv2": _mobilenet,
        "shufflenetv1": _shufflenet1,
        "shufflenetv2": _shufflenet2,
    }[architecture.family](architecture, input_shape)
    width = architecture.stages[-1][-1]
    if architecture.last:
        layers["conv"] = nn.Sequential(*unit(width, architecture.last), nn.ReLU())
        width = architecture.last
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(width, classes)}


def _resnet(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    from torchvision.models.resnet import BasicBlock  # noqa: PLC0415 - takes seconds to import

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        shortcut = _shortcut(inputs, outputs, stride)
        return BasicBlock(inputs, outputs, stride, shortcut, norm_layer=BatchNorm2d)

    return {"stem": _stem(input_shape[0], architecture.stem, kernel=3), **_stages(architecture, block)}


def _bottleneck(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    from torchvision.models.resnet import Bottleneck  # noqa: PLC0415 - takes seconds to import

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        shortcut = _shortcut(inputs, outputs, stride)
        return Bottleneck(inputs, outputs // Bottleneck.expansion, stride, shortcut, norm_layer=BatchNorm2d)

    return {"stem": _stem(input_shape[0], architecture.stem, kernel=3), **_stages(architecture, block)}


def _stem(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*unit(inputs, outputs, kernel, stride=stride), nn.ReLU())


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    same = inputs == outputs and stride == 1
    return None if same else nn.Sequential(*unit(inputs, outputs, stride=stride))


def _mobilenet(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    """Return the layers of MobileNetV2. Its first block, which does not expand the channels, is part of the stem."""
    wide = 2 * architecture.stem
    stem = [_stem(input_shape[0], wide, kernel=3, stride=2), InvertedBlock(wide, architecture.stem, 1, expansion=1)]

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        return InvertedBlock(inputs, outputs, stride, expansion=EXPANSION)

    return {"stem": nn.Sequential(*stem), **_stages(architecture, block)}


def _shufflenet1(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        return ShuffleBlock(inputs, outputs, stride, first=inputs == architecture.stem)

    return {"stem": _stem(input_shape[0], architecture.stem, kernel=1), **_stages(architecture, block, stride=2)}


def _shufflenet2(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    return {"stem": _stem(input_shape[0], architecture.stem, kernel=1), **_stages(architecture, shuffle, stride=2)}


def _wide(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    stem, width = _convolution(input_shape[0], architecture.stem), architecture.stages[-1][-1]
    stages = _stages(architecture, PreActivationBlock)
    return {"stem": stem, **stages, "norm": BatchNorm2d(width), "relu": nn.ReLU()}


def _stages(
    architecture: Architecture, block: Callable[[int, int, int], nn.Module], *, stride: int = 1
) -> dict[str, nn.Module]:
    """Return the stages of a network, by name.

    Args:
        architecture: Description of the network.
        block: Function that builds a block from its input channels, output channels and stride.
        stride: Stride of the first stage. The stride of each later stage is 2.
    """
    layers: dict[str, nn.Module] = {}
    inputs = architecture.stem
    for number, stage in enumerate(architecture.stages, start=1):
        strides = [stride if number == 1 else 2] + [1] * (len(stage) - 1)
        widths = pairwise([inputs, *stage])
        layers[f"block{number}"] = nn.Sequential(
            *(block(*width, step) for width, step in zip(widths, strides, strict=True))
        )
        inputs = stage[-1]
    return layers


class PreActivationBlock(nn.Module):
    """Block of a wide residual network, which adds a shortcut to two 3x3 convolutions.

    Batch norm and a ReLU precede each 3x3 convolution. If the numbers of input and output channels differ, the shortcut
    is a 1x1 convolution. Otherwise, the shortcut is the identity.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = BatchNorm2d(inputs), _convolution(inputs, outputs, stride)
        self.norm2, self.conv2 = BatchNorm2d(outputs), _convolution(outputs, outputs)
        self.relu = nn.ReLU()
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        active = self.relu(self.norm1(maps))
        residual = self.conv2(self.relu(self.norm2(self.conv1(active))))
        return residual + (maps if self.shortcut is None else self.shortcut(active))


def _vgg(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    channels, *size = input_shape
    layers: dict[str, nn.Module] = {}
    for number, stage in enumerate(architecture.stages, start=1):
        block: list[nn.Module] = []
        if number > 1 and min(size) >= SMALLEST:
            block.append(nn.MaxPool2d(2))
            size = [length // 2 for length in size]
        for inputs, outputs in pairwise([channels, *stage]):
            block += [nn.Conv2d(inputs, outputs, 3, padding=1), BatchNorm2d(outputs), nn.ReLU()]
        layers[f"block{number}"] = nn.Sequential(*block)
        channels = stage[-1]
    return layers


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
