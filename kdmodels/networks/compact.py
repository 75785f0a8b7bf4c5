"""Compact networks: a stem, equal blocks, the mean over the map and a linear head."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from kdmodels.costs import flops
from kdmodels.networks.blocks import BLOCKS, unit

STAGES = 4  # at most; each but the first halves the map, and doubles the channels
WIDENED = 4  # the most channels, in widths
SMALLEST = 8  # a map of fewer rows or columns is not halved any more
LARGE = 64  # from this size on the stem halves the map too


@dataclass(frozen=True)
class Shape:
    """A compact network's size, for images (C, H, W) and so many classes."""

    block: str
    width: int
    depth: int
    input_shape: tuple[int, int, int]
    classes: int

    @property
    def rows(self) -> list[tuple[int, int, int]]:
        """Each block's inputs, outputs and stride; stages have equally many blocks, the later ones up to one more."""
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
        """The stem halves large images."""
        return 2 if min(self.input_shape[1:]) >= LARGE else 1

    def layers(self) -> dict[str, nn.Module]:
        """The network's layers, after the normalisation."""
        stem = unit(self.input_shape[0], self.width, 3, stride=self.stem_stride)
        blocks = {f"block{i}": BLOCKS[self.block](*row) for i, row in enumerate(self.rows, start=1)}
        head = nn.Linear(self.rows[-1][1], self.classes)
        return {"stem": nn.Sequential(*stem, nn.ReLU()), **blocks, "pool": nn.AdaptiveAvgPool2d(1),
                "flatten": nn.Flatten(), "head": head}  # fmt: skip

    def parameters(self) -> int:
        """How many parameters the network has, without building it whole."""
        stem = 9 * self.input_shape[0] * self.width + 2 * self.width
        head = (self.rows[-1][1] + 1) * self.classes
        return stem + sum(_parameters(self.block, *row) for row in self.rows) + head

    def flops(self) -> int:
        """Operations of one image's forward pass, as torch's counter has them: a multiply-add is two."""
        channels, height, width = self.input_shape
        height, width = _halved(height, self.stem_stride), _halved(width, self.stem_stride)
        total = 2 * (9 * channels * self.width * height * width + self.rows[-1][1] * self.classes)
        for inputs, outputs, stride in self.rows:
            total += _flops(self.block, inputs, outputs, stride, height, width)
            height, width = _halved(height, stride), _halved(width, stride)
        return total


def stages(input_shape: tuple[int, int, int]) -> int:
    """How many stages a network of these images has: the last map has at least four rows and columns, where it can.

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
    assert operations is not None  # blocks are of convolutions
    return operations


def _halved(size: int, stride: int) -> int:
    return -(-size // stride)
