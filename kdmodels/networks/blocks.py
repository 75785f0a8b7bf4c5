"""Blocks of compact and published networks, built from the numbers of input and output channels and the stride.

The stride is 1 or 2. A stride of 2 halves height and width, rounded up. Batch norm follows every convolution, except
the depthwise convolutions of `Xception`. In compact networks, the numbers of channels are multiples of 4.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdmodels.networks.batch_norm import BatchNorm2d

GROUPS = 4
EXPANSION = 6  # expansion ratio of inverted residuals, as published
GHOST_EXPANSION = 3
SHUFFLE_GROUPS = 3


def unit(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return two layers: a convolution, and the batch norm that follows the convolution."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, BatchNorm2d(outputs)]


def plain(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*unit(inputs, outputs, 3, stride=stride), nn.ReLU())


def depthwise(inputs: int, outputs: int, stride: int) -> nn.Module:
    spatial = unit(inputs, inputs, 3, stride=stride, groups=inputs)
    return nn.Sequential(*spatial, nn.ReLU(), *unit(inputs, outputs), nn.ReLU())


def group(inputs: int, outputs: int, stride: int) -> nn.Module:
    grouped = unit(inputs, outputs, 3, stride=stride, groups=GROUPS)
    return nn.Sequential(*grouped, nn.ReLU(), *unit(outputs, outputs), nn.ReLU())  # the 1x1 layer mixes the groups


def inverted(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.mobilenetv2 import InvertedResidual  # noqa: PLC0415 - takes seconds to import

    return InvertedResidual(inputs, outputs, stride, expand_ratio=EXPANSION, norm_layer=BatchNorm2d)


def shuffle(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.shufflenetv2 import InvertedResidual  # noqa: PLC0415 - takes seconds to import

    return InvertedResidual(inputs, outputs, stride)


class Fire(nn.Module):
    """Fire block, which consists of a squeeze and an expansion.

    The squeeze is a 1x1 convolution. Its result has 1/8 as many channels as the output of the block. The expansion is a
    1x1 and a 3x3 convolution side by side. Each computes half of the output channels. If the stride is 2, max pooling
    precedes the squeeze.
    """

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
    """Xception block, which adds a shortcut to two separable convolutions with a ReLU before each.

    If the shapes of input and output differ, the shortcut is a 1x1 convolution. Otherwise, the shortcut is the
    identity. If the stride is 2, max pooling follows the separable convolutions.
    """

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
    """Ghost module, which computes half of its output channels cheaply from the other half.

    A 1x1 convolution computes the first half. A 3x3 depthwise convolution of the first half computes the second half.
    """

    def __init__(self, inputs: int, outputs: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        half = outputs // 2
        self.primary = nn.Sequential(*unit(inputs, half), activation())
        self.cheap = nn.Sequential(*unit(half, half, 3, groups=half), activation())

    def forward(self, maps: Tensor) -> Tensor:
        primary = self.primary(maps)
        return torch.cat([primary, self.cheap(primary)], dim=1)


class GhostBottleneck(nn.Module):
    """Ghost bottleneck, which adds a shortcut to two ghost modules.

    The first ghost module returns 3 times as many channels as the block's input has. The second ghost module has no
    activation. If the stride is 2, a depthwise convolution between the two modules halves the map.
    """

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


class InvertedBlock(nn.Module):
    """Inverted residual block with ReLU, as papers that compare distillation losses use it for MobileNetV2.

    Unlike torchvision's block, this block has ReLU instead of ReLU6. If `expansion` is 1, it keeps the first 1x1
    convolution.

    Args:
        inputs, outputs: Numbers of channels.
        stride: Stride of the depthwise convolution. If the shapes of input and output are equal, the input is added.
        expansion: Number of channels of the depthwise convolution, as a multiple of `inputs`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, expansion: int) -> None:
        super().__init__()
        wide = expansion * inputs
        spatial = unit(wide, wide, 3, stride=stride, groups=wide)
        self.layers = nn.Sequential(*unit(inputs, wide), nn.ReLU(), *spatial, nn.ReLU(), *unit(wide, outputs))
        self.residual = inputs == outputs and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.layers(maps) if self.residual else self.layers(maps)


class ShuffleBlock(nn.Module):
    """Block of the first ShuffleNet, which shuffles channels between two grouped 1x1 convolutions.

    With stride 1, the result is added to the input. With stride 2, it is concatenated with the input after average
    pooling, so that the block has `outputs` channels in total.

    Args:
        inputs, outputs: Numbers of channels.
        stride: Stride of the depthwise convolution.
        first: Whether the block is the first of the network. Its first convolution has no groups.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, first: bool) -> None:
        super().__init__()
        self.groups = 1 if first else SHUFFLE_GROUPS
        computed = outputs - inputs if stride == 2 else outputs
        narrow = computed // 4
        self.squeeze = nn.Sequential(*unit(inputs, narrow, groups=self.groups), nn.ReLU())
        self.spatial = nn.Sequential(*unit(narrow, narrow, 3, stride=stride, groups=narrow), nn.ReLU())
        self.expand = nn.Sequential(*unit(narrow, computed, groups=SHUFFLE_GROUPS))
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        squeezed = self.squeeze(maps)  # (B, C, H, W)
        shuffled = squeezed.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        expanded = self.expand(self.spatial(shuffled))
        if self.pool is None:
            return self.relu(expanded + maps)
        return self.relu(torch.cat([expanded, self.pool(maps)], dim=1))


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
