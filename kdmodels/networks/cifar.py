"""Published networks for small images: residual networks, wide residual networks and VGG.

The networks take images of at least 8 x 8 with any number of channels. The stages of a network are its hidden blocks,
named `block1`, `block2`, …
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from kdmodels.experiment.architectures import Architecture
from kdmodels.networks.batch_norm import BatchNorm2d

SMALLEST = 8  # a VGG does not pool maps with fewer rows or columns


def cifar(architecture: Architecture, input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Return the layers of a published network, by name. The layer that normalises the input images is not included.

    If the input and output of a residual network's block differ in shape, the block's shortcut is a 1x1 convolution
    with batch norm. The papers that compare distillation losses on these networks use the same shortcut.

    References:
        He et al., "Deep residual learning for image recognition", 2016, section 4.2.
        Zagoruyko & Komodakis, "Wide residual networks", 2016, section 2.
        Simonyan & Zisserman, "Very deep convolutional networks", 2015.
        Tian et al., "Contrastive representation distillation", 2020 (resnet8x4, resnet32x4 and vgg8).
    """
    layers = {"resnet": _resnet, "wide": _wide, "vgg": _vgg}[architecture.family](architecture, input_shape)
    width = architecture.stages[-1][-1]
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(width, classes)}


def _resnet(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    from torchvision.models.resnet import BasicBlock  # noqa: PLC0415 - takes seconds to import

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        same = inputs == outputs and stride == 1
        shortcut = None if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                                   BatchNorm2d(outputs))  # fmt: skip
        return BasicBlock(inputs, outputs, stride, shortcut, norm_layer=BatchNorm2d)

    stem = nn.Sequential(_convolution(input_shape[0], architecture.stem), BatchNorm2d(architecture.stem), nn.ReLU())
    return {"stem": stem, **_stages(architecture, block)}


def _wide(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    stem, width = _convolution(input_shape[0], architecture.stem), architecture.stages[-1][-1]
    stages = _stages(architecture, PreActivationBlock)
    return {"stem": stem, **stages, "norm": BatchNorm2d(width), "relu": nn.ReLU()}


def _stages(architecture: Architecture, block: Callable[[int, int, int], nn.Module]) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {}
    inputs = architecture.stem
    for number, stage in enumerate(architecture.stages, start=1):
        strides = [1 if number == 1 else 2] + [1] * (len(stage) - 1)
        widths = pairwise([inputs, *stage])
        layers[f"block{number}"] = nn.Sequential(
            *(block(*width, stride) for width, stride in zip(widths, strides, strict=True))
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
