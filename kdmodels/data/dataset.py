"""A dataset in memory: train, validation, and a test split behind a door of its own."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from kdmodels.errors import UserError

# Which examples are held out is no matter of luck: all experiments on a source, whatever their seeds, share it.
SPLIT_SEED = 0


@dataclass(frozen=True)
class Split:
    """Pixels (N, C, H, W) from 0 to `top`, in the type that they are stored in, and labels (N,), int64."""

    pixels: Tensor
    labels: Tensor
    top: int = 1

    def batch(self, rows: Tensor) -> Tensor:
        """The images of these rows, of any shape (...): (..., C, H, W), float32 in [0, 1]."""
        return self.pixels[rows].float() / self.top

    @property
    def images(self) -> Tensor:
        """All images (N, C, H, W), float32 in [0, 1], for a split that fits in memory four times."""
        return self.pixels.float() / self.top

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three splits, the classes' names, and one digest over all content.

    The test split is read through `read_test` alone: nothing that trains or chooses may call it.
    """

    source: str
    classes: list[str]
    train: Split
    validation: Split
    mean: list[float]
    std: list[float]
    indices: dict[str, list[int]]  # of train and validation, in the source's own order
    digest: str
    _test: Split = field(repr=False)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def signature(self) -> dict[str, Any]:
        """What `kdmodels.networks.build` needs to know of the data, as its keyword arguments."""
        return {"input_shape": self.input_shape, "classes": len(self.classes), "mean": self.mean, "std": self.std}

    @property
    def test_examples(self) -> int:
        """How many examples the test split has."""
        return len(self._test)

    def read_test(self) -> Split:
        """The test split, for the promotion step."""
        return self._test


def hold_out(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out, each class in its share; a function of the labels and the fraction alone.

    Raises:
        UserError: the fraction leaves a class without an example on either side.
    """
    try:
        kept, held = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=SPLIT_SEED
        )
    except ValueError as error:
        raise UserError(
            f"data.validation: {fraction:g} of {len(labels)} examples leaves some class with none on one side; "
            "allowed: a share that gives each class at least one on both"
        ) from error
    return np.sort(kept), np.sort(held)


def assemble(
    source: str,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    top: int,
    validation: float,
    subset: int | None,
    normalise: tuple[list[float], list[float]] | None = None,
) -> Dataset:
    """Split, scale and name the arrays of a source.

    Args:
        images, test_images: (N, C, H, W), integers from 0 to `top`.
        labels, test_labels: (N,).
        validation: the fraction of the training images held out.
        subset: how many of the training images are used at all; None means all.
        normalise: mean and std per channel; None computes them on the training split.

    Raises:
        UserError: as `hold_out`, or the subset is larger than the whole.
    """
    used = np.arange(len(labels)) if subset is None else _subset(labels, subset)
    kept, held = (used[part] for part in hold_out(labels[used], validation))
    content = sha256(repr((source, top, images.shape, test_images.shape)).encode())
    for array in (images, labels, test_images, test_labels, kept, held):
        content.update(np.ascontiguousarray(array).data)
    train = _split(images[kept], labels[kept], top)
    mean, std = normalise or _moments(train.images)
    return Dataset(
        source=source,
        classes=[str(label) for label in np.unique(labels)],
        train=train,
        validation=_split(images[held], labels[held], top),
        mean=mean,
        std=std,
        indices={"train": kept.tolist(), "validation": held.tolist()},
        digest=content.hexdigest(),
        _test=_split(test_images, test_labels, top),
    )


def _subset(labels: np.ndarray, size: int) -> np.ndarray:
    classes = len(np.unique(labels))
    if not classes <= size < len(labels):
        raise UserError(f"data.subset: {size} is out of range (allowed: {classes} to {len(labels) - 1})")
    used, _ = train_test_split(np.arange(len(labels)), train_size=size, stratify=labels, random_state=SPLIT_SEED)
    return np.sort(used)


def _split(images: np.ndarray, labels: np.ndarray, top: int) -> Split:
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long(), top)


def _moments(images: Tensor) -> tuple[list[float], list[float]]:
    std, mean = torch.std_mean(images, dim=(0, 2, 3))
    return mean.tolist(), std.tolist()
