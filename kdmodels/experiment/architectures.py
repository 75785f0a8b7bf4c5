"""The tables of named networks and blocks, with their structure and the papers that introduced them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Architecture:
    """A named network, such as `resnet20`.

    Attributes:
        family: The family to which the network belongs.
        stem: The number of channels that the first layers, called the stem, return. 0 if the network has no stem.
        stages: The stages of the network, one tuple per stage. A tuple holds the number of channels of each block or,
            for a VGG, of each convolution. Every stage halves the height and the width of the feature map, except the
            first stage of a residual network and of MobileNetV2, whose stem halves the feature map.
        last: The number of channels of a 1x1 convolution after the stages. 0 if the network has no such convolution.
    """

    family: Literal["resnet", "bottleneck", "wide", "vgg", "mobilenetv2", "shufflenetv1", "shufflenetv2"]
    stem: int
    stages: tuple[tuple[int, ...], ...]
    last: int = 0

    @property
    def paper(self) -> str:
        """The paper that introduced the family."""
        return _PAPERS[self.family]


_PAPERS = {
    "resnet": "He et al. 2016, section 4.2",
    "bottleneck": "He et al. 2016, section 4.1",
    "wide": "Zagoruyko & Komodakis 2016",
    "vgg": "Simonyan & Zisserman 2015, with batch norm",
    "mobilenetv2": "Sandler et al. 2018, half width",
    "shufflenetv1": "Zhang et al. 2018, 3 groups",
    "shufflenetv2": "Ma et al. 2018",
}


def _resnet(depth: int, channels: tuple[int, int, int, int] = (16, 16, 32, 64)) -> Architecture:
    stem, *widths = channels
    return Architecture("resnet", stem, _stages((depth - 2) // 6, widths))


def _wide(depth: int, factor: int) -> Architecture:
    return Architecture("wide", 16, _stages((depth - 4) // 6, [16 * factor, 32 * factor, 64 * factor]))


def _vgg(*convolutions: int) -> Architecture:
    return Architecture("vgg", 0, _stages(convolutions, [64, 128, 256, 512, 512]))


def _stages(blocks: int | tuple[int, ...], widths: list[int]) -> tuple[tuple[int, ...], ...]:
    numbers = (blocks,) * len(widths) if isinstance(blocks, int) else blocks
    return tuple((width,) * number for number, width in zip(numbers, widths, strict=True))


X4 = (32, 64, 128, 256)
ARCHITECTURES = {
    "resnet8": _resnet(8),
    "resnet14": _resnet(14),
    "resnet20": _resnet(20),
    "resnet32": _resnet(32),
    "resnet44": _resnet(44),
    "resnet56": _resnet(56),
    "resnet110": _resnet(110),
    "resnet8x4": _resnet(8, X4),
    "resnet32x4": _resnet(32, X4),
    "resnet50": Architecture("bottleneck", 64, _stages((3, 4, 6, 3), [256, 512, 1024, 2048])),
    "wrn_16_1": _wide(16, 1),
    "wrn_16_2": _wide(16, 2),
    "wrn_40_1": _wide(40, 1),
    "wrn_40_2": _wide(40, 2),
    "vgg8": _vgg(1, 1, 1, 1, 1),
    "vgg11": _vgg(1, 1, 2, 2, 2),
    "vgg13": _vgg(2, 2, 2, 2, 2),
    "vgg16": _vgg(2, 2, 3, 3, 3),
    "vgg19": _vgg(2, 2, 4, 4, 4),
    "mobilenetv2": Architecture(
        "mobilenetv2", 8, ((12,) * 2, (16,) * 3, (32,) * 4 + (48,) * 3, (80,) * 3 + (160,)), last=1280
    ),
    "shufflenetv1": Architecture("shufflenetv1", 24, _stages((4, 8, 4), [240, 480, 960])),
    "shufflenetv2": Architecture("shufflenetv2", 24, _stages((4, 8, 4), [116, 232, 464]), last=1024),
}


@dataclass(frozen=True)
class Block:
    """A kind of block of a compact network.

    Attributes:
        about: A description of the block's structure, as text for a table.
        paper: The paper that introduced the block. Empty if there is no such paper.
    """

    about: str
    paper: str


BLOCKS = {
    "plain": Block("3x3 convolution, for comparison", ""),
    "depthwise": Block("3x3 depthwise, then 1x1", "MobileNet, Howard et al. 2017"),
    "group": Block("3x3 in 4 groups, then 1x1", "AlexNet, Krizhevsky et al. 2012; ResNeXt, Xie et al. 2017"),
    "fire": Block("1x1 to 1/8 of the channels, then 1x1 and 3x3 side by side", "SqueezeNet, Iandola et al. 2016"),
    "inverted": Block("1x1 to 6 times the channels, 3x3 depthwise, linear 1x1, residual",
                      "MobileNetV2, Sandler et al. 2018"),
    "shuffle": Block("1x1, 3x3 depthwise and 1x1 on half of the channels, then a channel shuffle",
                     "ShuffleNetV2, Ma et al. 2018"),
    "xception": Block("two depthwise-separable 3x3 convolutions with a 1x1 residual", "Xception, Chollet 2017"),
    "ghost": Block("half of the maps by 1x1, half by 3x3 depthwise; 3 times the channels inside, residual",
                   "GhostNet, Han et al. 2020"),
}  # fmt: skip
