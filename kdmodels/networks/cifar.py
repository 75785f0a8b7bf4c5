"""The catalogue's networks for small images: residual networks, wide ones and VGG, as their papers build them.

They take maps of any size of 8 and more, of any number of channels. A stage is one hidden block: `block1`, `block2`, …
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from kdmodels.architectures import Architecture

SMALLEST = 8  # a VGG's map of fewer rows or columns is not pooled any more


def cifar(architecture: Architecture, input_shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """The layers of a network of the catalogue, after the normalisation.

    The shortcut of a residual network is a 1x1 convolution with batch norm where the shapes differ, as in the papers
    that compare distillation losses on these networks.

    References:
        He et al., "Deep residual learning for image recognition", 2016, section 4.2.
        Zagoruyko & Komodakis, "Wide residual networks", 2016, section 2.
        Simonyan & Zisserman, "Very deep convolutional networks", 2015.
        Tian et al., "Contrastive representation distillation", 2020: resnet8x4, resnet32x4, vgg8.
    """
    layers = {"resnet": _resnet, "wide": _wide, "vgg": _vgg}[architecture.family](architecture, input_shape)
    width = architecture.stages[-1][-1]
    return layers | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(width, classes)}


def _resnet(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    from torchvision.models.resnet import BasicBlock  # takes seconds to import

    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        same = inputs == outputs and stride == 1
        shortcut = None if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                                   nn.BatchNorm2d(outputs))  # fmt: skip
        return BasicBlock(inputs, outputs, stride, shortcut)

    stem = nn.Sequential(_convolution(input_shape[0], architecture.stem), nn.BatchNorm2d(architecture.stem), nn.ReLU())
    return {"stem": stem, **_stages(architecture, block)}


def _wide(architecture: Architecture, input_shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    stem, width = _convolution(input_shape[0], architecture.stem), architecture.stages[-1][-1]
    stages = _stages(architecture, PreActivationBlock)
    return {"stem": stem, **stages, "norm": nn.BatchNorm2d(width), "relu": nn.ReLU()}


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
    """Batch norm and ReLU before each of two 3x3 convolutions; a 1x1 convolution where the shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), _convolution(inputs, outputs, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), _convolution(outputs, outputs)
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
            block += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers[f"block{number}"] = nn.Sequential(*block)
        channels = stage[-1]
    return layers


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
