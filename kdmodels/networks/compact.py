"""Compact networks.

A compact network consists of a first convolution (the stem), blocks of one kind, the mean over the positions, and a
linear last layer.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from kdmodels.evaluation.flops import flops
from kdmodels.networks.blocks import BLOCKS, unit

STAGES = 4  # maximum number of stages; each stage after the first halves the map and doubles the channels
WIDENED = 4  # maximum number of channels, as a multiple of the width
SMALLEST = 8  # maps with fewer rows or columns are not halved
LARGE = 64  # the stem halves maps of at least this size


@dataclass(frozen=True)
class Shape:
    """Architecture of a compact network.

    Attributes:
        block: Kind of the blocks, a key of `kdmodels.networks.blocks.BLOCKS`.
        width: Number of channels of the first stage.
        depth: Number of blocks.
        input_shape: Shape of one image, (C, H, W).
        classes: Number of classes.
    """

    block: str
    width: int
    depth: int
    input_shape: tuple[int, int, int]
    classes: int

    @property
    def rows(self) -> list[tuple[int, int, int]]:
        """Input channels, output channels and stride of each block.

        The blocks are divided into stages. Within a stage, all maps have the same size. If the depth is not a multiple
        of the number of stages, the last stages have one block more than the first stages.
        """
        number = min(stages(self.input_shape), self.depth)
        rows, inputs = [], self.width
        for stage in range(number):
            outputs = self.width * min(2**stage, WIDENED)
            blocks = (self.depth + stage) // number
            rows += [(inputs, outputs, 1 if stage == 0 else 2), *[(outputs, outputs, 1)] * (blocks - 1)]
            inputs = outputs
        return rows

    @property
    def stem_stride(self) -> int:
        """Stride of the stem: 2 if the images have at least 64 rows and columns, otherwise 1."""
        return 2 if min(self.input_shape[1:]) >= LARGE else 1

    def layers(self) -> dict[str, nn.Module]:
        """Return the layers of the network, by name. The layer that normalises the input images is not included."""
        stem = unit(self.input_shape[0], self.width, 3, stride=self.stem_stride)
        blocks = {f"block{i}": BLOCKS[self.block](*row) for i, row in enumerate(self.rows, start=1)}
        head = nn.Linear(self.rows[-1][1], self.classes)
        return {"stem": nn.Sequential(*stem, nn.ReLU()), **blocks, "pool": nn.AdaptiveAvgPool2d(1),
                "flatten": nn.Flatten(), "head": head}  # fmt: skip

    def parameters(self) -> int:
        """Return the number of parameters of the network, without building the whole network."""
        stem = 9 * self.input_shape[0] * self.width + 2 * self.width
        head = (self.rows[-1][1] + 1) * self.classes
        return stem + sum(_parameters(self.block, *row) for row in self.rows) + head

    def flops(self) -> int:
        """Return the number of floating-point operations of the forward pass of one image.

        A multiply-add counts as 2 operations, as in torch's counter.
        """
        channels, height, width = self.input_shape
        height, width = _halved(height, self.stem_stride), _halved(width, self.stem_stride)
        total = 2 * (9 * channels * self.width * height * width + self.rows[-1][1] * self.classes)
        for inputs, outputs, stride in self.rows:
            total += _flops(self.block, inputs, outputs, stride, height, width)
            height, width = _halved(height, stride), _halved(width, stride)
        return total


def stages(input_shape: tuple[int, int, int]) -> int:
    """Return the number of stages of a compact network for images of shape (C, H, W).

    A network has at most 4 stages. Each stage after the first halves the map. A map with fewer than 8 rows or columns
    is not halved, so no stage follows.

    >>> [stages((3, size, size)) for size in (4, 8, 28, 32, 128)]
    [1, 2, 3, 4, 4]
    """
    size, number = min(input_shape[1:]), 1
    size = _halved(size, 2 if size >= LARGE else 1)
    while number < STAGES and size >= SMALLEST:
        size, number = _halved(size, 2), number + 1
    return number


@cache
def _parameters(block: str, inputs: int, outputs: int, stride: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in BLOCKS[block](inputs, outputs, stride).parameters())


@cache
def _flops(block: str, inputs: int, outputs: int, stride: int, height: int, width: int) -> int:
    with torch.device("meta"):
        operations = flops(BLOCKS[block](inputs, outputs, stride).eval(), (inputs, height, width))
    assert operations is not None  # torch counts convolutions
    return operations


def _halved(size: int, stride: int) -> int:
    return -(-size // stride)
