"""The result of reading a source: pixels and labels by split. Missing splits are added later, by `assemble`."""

from collections.abc import Set
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch

from kdmodels.data.split import Split

UNLABELLED = -1
LONGEST_NUMBER = 1_000  # maximum digits of a class name that is sorted as a number; Python converts at most 4,300


@dataclass(frozen=True)
class Part:
    """A part of a source, for example the examples of one split.

    Args:
        pixels: The pixels of images, (M, C, H, W). The parts of a source may share this array.
        labels: The labels of the examples, (N,) int64. `UNLABELLED` marks an unlabelled example.
        prints: The fingerprints (hashes) of the images, (N, 2) uint64.
        rows: The index of each example's row in `pixels`, (N,).
    """

    pixels: np.ndarray
    labels: np.ndarray
    prints: np.ndarray
    rows: np.ndarray

    def take(self, indices: np.ndarray) -> Self:
        """Return a part that holds only the examples with these indices, (K,). No pixel is read."""
        return replace(self, labels=self.labels[indices], prints=self.prints[indices], rows=self.rows[indices])

    def split(self, top: int) -> Split:
        """Return the part as tensors. `top` is the largest possible value of a pixel."""
        is_whole = np.array_equal(self.rows, np.arange(len(self.pixels)))
        rows = None if is_whole else torch.from_numpy(self.rows)
        return Split(torch.from_numpy(self.pixels), torch.from_numpy(self.labels), top, rows)


@dataclass(frozen=True)
class Source:
    """The content of a source.

    Args:
        classes: The class names. A label is an index into this list.
        parts: The examples of each split, by the name of the split. `train` always exists, and `validation` and `test`
            exist if the source has these splits.
        top: The largest possible value of a pixel.
        normalise: The published mean and standard deviation of each channel. If `None`, both are computed on the
            training split.
        notes: Facts about the data that the user should know.
        skipped: Images that were left out, each with the reason.
    """

    classes: list[str]
    parts: dict[str, Part]
    top: int = 255
    normalise: tuple[list[float], list[float]] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def ordered(names: Set[str]) -> list[str]:
    """Sort class names by value if all names are numbers, otherwise alphabetically.

    >>> ordered({"10", "9", "09"}), ordered({"b", "a"})
    (['09', '9', '10'], ['a', 'b'])
    """
    are_numbers = all(name.isdecimal() and len(name) <= LONGEST_NUMBER for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if are_numbers else sorted(names)


def parts_of(pixels: np.ndarray, prints: np.ndarray, splits: np.ndarray, labels: np.ndarray) -> dict[str, Part]:
    """Return the examples of each split, by the name of the split. Splits without examples are left out.

    All parts share the same array of pixels.

    Args:
        pixels: The pixels of the images, (N, C, H, W).
        prints: The fingerprints (hashes) of the images, (N, 2).
        splits: The name of each example's split, (N,).
        labels: The labels of the examples, (N,), as indices into the class names.
    """
    rows = {split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")}
    return {
        split: Part(pixels, labels[indices], prints[indices], indices)
        for split, indices in rows.items()
        if len(indices)
    }
