"""The tables of named networks and blocks, with their structure and the papers that introduced them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Architecture:
    """A named network, such as `resnet20`.

    Attributes:
        family: The family to which the network belongs.
        stem: The number of channels of the first convolution, called the stem. 0 if the network has no stem.
        stages: The stages of the network, one tuple per stage. A tuple holds the number of channels of each residual
            block or, for a VGG, of each convolution. Every stage halves the height and the width of the feature map,
            except the first stage of a residual network.
    """

    family: Literal["resnet", "wide", "vgg"]
    stem: int
    stages: tuple[tuple[int, ...], ...]

    @property
    def paper(self) -> str:
        """The paper that introduced the family."""
        return _PAPERS[self.family]


_PAPERS = {
    "resnet": "He et al. 2016, section 4.2",
    "wide": "Zagoruyko & Komodakis 2016",
    "vgg": "Simonyan & Zisserman 2015, with batch norm",
}


def _resnet(depth: int, channels: tuple[int, int, int, int] = (16, 16, 32, 64)) -> Architecture:
    stem, *widths = channels
    return Architecture("resnet", stem, tuple((width,) * ((depth - 2) // 6) for width in widths))


def _wide(depth: int, factor: int) -> Architecture:
    return Architecture("wide", 16, tuple((width * factor,) * ((depth - 4) // 6) for width in (16, 32, 64)))


def _vgg(convolutions: int) -> Architecture:
    return Architecture("vgg", 0, tuple((width,) * convolutions for width in (64, 128, 256, 512, 512)))


X4 = (32, 64, 128, 256)
ARCHITECTURES = {
    "resnet20": _resnet(20),
    "resnet32": _resnet(32),
    "resnet56": _resnet(56),
    "resnet110": _resnet(110),
    "resnet8x4": _resnet(8, X4),
    "resnet32x4": _resnet(32, X4),
    "wrn_16_1": _wide(16, 1),
    "wrn_16_2": _wide(16, 2),
    "wrn_40_1": _wide(40, 1),
    "wrn_40_2": _wide(40, 2),
    "vgg8": _vgg(1),
    "vgg13": _vgg(2),
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
