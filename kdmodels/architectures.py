"""The tables of networks that have a name: what they are made of, and where they come from."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Architecture:
    """A network of the catalogue, its channels stage by stage.

    `stages` has a residual network's blocks, or a VGG's convolutions; every stage but a residual network's first
    halves the map.
    """

    family: Literal["resnet", "wide", "vgg"]
    stem: int
    stages: tuple[tuple[int, ...], ...]

    @property
    def paper(self) -> str:
        """Where it was published."""
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
    """A block of a compact network, in words."""

    about: str
    paper: str


BLOCKS = {
    "plain": Block("3x3 convolution: the comparison", ""),
    "depthwise": Block("3x3 depthwise, then 1x1", "MobileNet, Howard et al. 2017"),
    "group": Block("3x3 in 4 groups, then 1x1", "AlexNet, Krizhevsky et al. 2012; ResNeXt, Xie et al. 2017"),
    "fire": Block("1x1 to an eighth, then 1x1 and 3x3 side by side", "SqueezeNet, Iandola et al. 2016"),
    "inverted": Block("1x1 to six times the channels, 3x3 depthwise, linear 1x1, residual",
                      "MobileNetV2, Sandler et al. 2018"),
    "shuffle": Block("half of the channels through 1x1, 3x3 depthwise, 1x1; then shuffled",
                     "ShuffleNetV2, Ma et al. 2018"),
    "xception": Block("two depthwise-separable 3x3 with a 1x1 residual", "Xception, Chollet 2017"),
    "ghost": Block("half of the maps by 1x1, half of those by 3x3 depthwise; thrice the channels within, residual",
                   "GhostNet, Han et al. 2020"),
}  # fmt: skip
