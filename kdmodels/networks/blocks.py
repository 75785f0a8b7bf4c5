"""The blocks of compact networks: each takes (inputs, outputs, stride), all multiples of four and a stride of 1 or 2.

A stride of 2 halves the map, a last odd row or column counting as whole. Batch norm follows every convolution.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

GROUPS = 4
EXPANSION = 6  # of an inverted residual, as published
GHOST_EXPANSION = 3


def unit(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def plain(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*unit(inputs, outputs, 3, stride=stride), nn.ReLU())


def depthwise(inputs: int, outputs: int, stride: int) -> nn.Module:
    spatial = unit(inputs, inputs, 3, stride=stride, groups=inputs)
    return nn.Sequential(*spatial, nn.ReLU(), *unit(inputs, outputs), nn.ReLU())


def group(inputs: int, outputs: int, stride: int) -> nn.Module:
    grouped = unit(inputs, outputs, 3, stride=stride, groups=GROUPS)
    return nn.Sequential(*grouped, nn.ReLU(), *unit(outputs, outputs), nn.ReLU())  # the 1x1 mixes the groups


def inverted(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.mobilenetv2 import InvertedResidual  # takes seconds to import

    return InvertedResidual(inputs, outputs, stride, expand_ratio=EXPANSION)


def shuffle(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.shufflenetv2 import InvertedResidual  # takes seconds to import

    return InvertedResidual(inputs, outputs, stride)


class Fire(nn.Module):
    """A squeeze to an eighth of the channels, then half of them by 1x1 and half by 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        squeezed = -(-outputs // 8)
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.squeeze = nn.Sequential(*unit(inputs, squeezed), nn.ReLU())
        self.expand1 = nn.Sequential(*unit(squeezed, outputs // 2), nn.ReLU())
        self.expand3 = nn.Sequential(*unit(squeezed, outputs // 2, 3), nn.ReLU())

    def forward(self, maps: Tensor) -> Tensor:
        squeezed = self.squeeze(self.pool(maps))
        return torch.cat([self.expand1(squeezed), self.expand3(squeezed)], dim=1)


class Xception(nn.Module):
    """Two separable convolutions, each after a ReLU, beside a 1x1 convolution where the shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.separable = nn.Sequential(
            nn.ReLU(), nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), *unit(inputs, outputs),
            nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False), *unit(outputs, outputs),
            nn.MaxPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity(),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*unit(inputs, outputs, stride=stride))

    def forward(self, maps: Tensor) -> Tensor:
        return self.separable(maps) + self.shortcut(maps)


class GhostModule(nn.Module):
    """Half of the maps by a 1x1 convolution, half by a cheap 3x3 depthwise one of those."""

    def __init__(self, inputs: int, outputs: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        half = outputs // 2
        self.primary = nn.Sequential(*unit(inputs, half), activation())
        self.cheap = nn.Sequential(*unit(half, half, 3, groups=half), activation())

    def forward(self, maps: Tensor) -> Tensor:
        primary = self.primary(maps)
        return torch.cat([primary, self.cheap(primary)], dim=1)


class GhostBottleneck(nn.Module):
    """Two ghost modules, the wide one first and the linear one last, and a residual."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = GHOST_EXPANSION * inputs
        spatial = unit(wide, wide, 3, stride=stride, groups=wide) if stride == 2 else []
        self.ghost = nn.Sequential(
            GhostModule(inputs, wide, nn.ReLU), *spatial, GhostModule(wide, outputs, nn.Identity)
        )
        same = inputs == outputs and stride == 1
        halved = unit(inputs, inputs, 3, stride=stride, groups=inputs)
        self.shortcut = nn.Identity() if same else nn.Sequential(*halved, *unit(inputs, outputs))

    def forward(self, maps: Tensor) -> Tensor:
        return self.ghost(maps) + self.shortcut(maps)


BLOCKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "plain": plain,
    "depthwise": depthwise,
    "group": group,
    "fire": Fire,
    "inverted": inverted,
    "shuffle": shuffle,
    "xception": Xception,
    "ghost": GhostBottleneck,
}
