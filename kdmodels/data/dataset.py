"""A dataset: train, validation, and a test split behind a door of its own. Its pixels may lie on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import ceil
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from kdmodels.data.checks import missing_classes, repeated_images
from kdmodels.data_fields import Data
from kdmodels.errors import UserError
from kdmodels.looks import sketch_of

LONGEST_CLASS = 255  # characters of a class's name, as of a folder's
TEST_SHARE = 0.2  # of a source without a test split
VALIDATION_SHARE = 0.1
UNLABELLED = -1
CHUNK_VALUES = 2**20  # that are read at once where all pixels are


def at_rows(values: Tensor, rows: Tensor) -> Tensor:
    """`values[rows]` for rows of any shape (...), copied a whole row at a time: up to ten times as fast."""
    return values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])


@dataclass(frozen=True)
class Split:
    """Pixels from 0 to `top`, in the type that they are stored in, and the labels (N,), int64; -1 where unknown.

    `pixels` (M, C, H, W) may be mapped from disk and hold other splits too: `rows` (N,) are those of this one, in
    order, and None is all of them.
    """

    pixels: Tensor
    labels: Tensor
    top: int = 1
    rows: Tensor | None = None

    def stored(self, rows: Tensor) -> Tensor:
        """The pixels of these examples, of any shape (...): (..., C, H, W), as they are stored."""
        return at_rows(self.pixels, rows if self.rows is None else at_rows(self.rows, rows))

    def batch(self, rows: Tensor) -> Tensor:
        """The images of these examples, of any shape (...): (..., C, H, W), float32 in [0, 1]."""
        return self.stored(rows) / self.top

    @property
    def images(self) -> Tensor:
        """All images (N, C, H, W), float32 in [0, 1], for a split that fits in memory four times."""
        return self.batch(torch.arange(len(self)))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Joined(Split):
    """A split and, after its examples, those of another; `labels` are those of both."""

    first: Split = field(kw_only=True)
    second: Split = field(kw_only=True)

    def stored(self, rows: Tensor) -> Tensor:
        """The pixels of these examples, of any shape (...): (..., C, H, W), as they are stored."""
        count = len(self.first)
        pixels = self.pixels.new_empty((*rows.shape, *self.pixels.shape[1:]))
        pixels[rows < count] = self.first.stored(rows[rows < count])
        pixels[rows >= count] = self.second.stored(rows[rows >= count] - count)
        return pixels


@dataclass(frozen=True)
class Part:
    """Examples of a source: pixels (M, C, H, W), and of those at `rows` the labels (N,) and fingerprints (N, 2)."""

    pixels: np.ndarray
    labels: np.ndarray
    prints: np.ndarray
    rows: np.ndarray

    def take(self, chosen: np.ndarray) -> Self:
        """Some of the examples; no pixel is read."""
        return replace(self, labels=self.labels[chosen], prints=self.prints[chosen], rows=self.rows[chosen])

    def split(self, top: int) -> Split:
        """The same as tensors."""
        whole = np.array_equal(self.rows, np.arange(len(self.pixels)))
        rows = None if whole else torch.from_numpy(self.rows)
        return Split(torch.from_numpy(self.pixels), torch.from_numpy(self.labels), top, rows)


LONGEST_NUMBER = 1_000  # digits of a class's name; Python reads no more than 4,300


def ordered(names: set[str]) -> list[str]:
    """Numbers by their value, else by name.

    >>> ordered({"10", "9", "09"}), ordered({"b", "a"})
    (['09', '9', '10'], ['a', 'b'])
    """
    numbers = all(name.isdecimal() and len(name) <= LONGEST_NUMBER for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)


def parts_of(pixels: np.ndarray, prints: np.ndarray, splits: np.ndarray, labels: np.ndarray) -> dict[str, Part]:
    """The parts by the name of each example's split; all stay on the same pixels."""
    rows = {split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")}
    return {split: Part(pixels, labels[own], prints[own], own) for split, own in rows.items() if len(own)}


@dataclass(frozen=True)
class Source:
    """What is read of a source: its parts by name, `train` and those of `validation` and `test` that it has.

    `normalise` holds published means and deviations per channel; None computes them on the training split.
    """

    classes: list[str]
    parts: dict[str, Part]
    top: int = 255
    normalise: tuple[list[float], list[float]] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dataset:
    """Three splits, the classes' names, and digests of their content.

    `digest` is over all content, `training_digest` over all but the test split: what trains and chooses depends on
    nothing else. `split_digests` are those of validation and of test.

    `test_sketch` tells, without the test split, how many examples two test splits share.

    The test split is read through `read_test` alone: nothing that trains or chooses may call it. `transfer` are images
    without labels that the student learns from too; `notes` what the user should know, and `skipped` the images left
    out.
    """

    source: str
    classes: list[str]
    train: Split
    validation: Split
    transfer: Split | None
    mean: list[float]
    std: list[float]
    indices: dict[str, list[int]]  # of train and validation, in the source's own order
    digest: str
    training_digest: str
    split_digests: dict[str, str]
    test_sketch: tuple[int, ...]
    notes: list[str]
    skipped: list[str]
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
    def taught(self) -> Split:
        """What a student learns from that has a teacher: the training split, and the unlabelled images."""
        if self.transfer is None:
            return self.train
        labels = torch.cat([self.train.labels, self.transfer.labels])
        return Joined(self.train.pixels, labels, self.train.top, first=self.train, second=self.transfer)

    @property
    def test_examples(self) -> int:
        """How many examples the test split has."""
        return len(self._test)

    @property
    def test(self) -> NoReturn:
        """Refused: what chooses must not see it.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("the test split is not for what trains or chooses; the promotion opens it, and counts that")

    def read_test(self) -> Split:
        """The test split, for the promotion step."""
        return self._test


def hold_out(labels: np.ndarray, prints: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out, in order: `count` of them, each class in its share and at least one on both sides.

    Which side an example is on is a matter of its pixels, and of no seed: all experiments on a source share it; equal
    images of a class are on one side, and a set that grows keeps its splits, in both cases but for some at the edge.
    Test is held out first and validation next to it, so that what an earlier champion was trained on is not what it is
    measured on.

    Args:
        labels: (N,), of each class none or at least two.
        prints: (N, 2), the images' fingerprints.
        count: from the number of classes to N less that number.
    """
    order = np.lexsort((prints[:, 0], labels))
    _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    shares = _shares(sizes, count)
    held = np.sort(np.concatenate([order[at : at + share] for at, share in zip(first, shares, strict=True)]))
    return np.setdiff1d(np.arange(len(labels)), held), held


def fold_numbers(labels: np.ndarray, prints: np.ndarray, folds: int) -> np.ndarray:
    """(N,), of which fold each example is: a matter of its pixels as in `hold_out`, each class in equal parts.

    Equal images of a class are in one fold or, at an edge, in two that are next to each other.

    Args:
        labels: (N,), of each class none or at least `folds`. prints: (N, 2), the images' fingerprints.
    """
    order = np.lexsort((prints[:, 0], labels))
    _, sizes = np.unique(labels[order], return_counts=True)
    numbers = np.empty(len(labels), dtype=np.int64)
    numbers[order] = np.concatenate([np.arange(size) * folds // size for size in sizes])
    return numbers


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Of each class so many, in proportion, that the sum is `count`; none has 0 or all of its own."""
    exact = sizes * (count / sizes.sum())
    shares = np.clip(np.round(exact), 1, sizes - 1).astype(int)
    while rest := count - shares.sum():
        step = np.sign(rest)
        possible = (shares + step >= 1) & (shares + step < sizes)
        shares[np.argmax(np.where(possible, (exact - shares) * step, -np.inf))] += step
    return shares


def assemble(source: Source, data: Data, transfer: Part | None = None, *, fold: int = 0) -> Dataset:
    """Split, check and name what has been read of a source.

    Args:
        transfer: the unlabelled images of `data.transfer`, as large and with as many channels as the source's.
        fold: which of `data.folds` is the validation split.

    Raises:
        UserError: a class has a name that can't be shown or too few examples to be split or for so many folds, the
            subset is larger than the whole, or, where `data.strict`, an image is in train and test.
    """
    for name in source.classes:
        if not name.isprintable() or len(name) > LONGEST_CLASS:  # it stands in tables, on terminals, in a file's lines
            told = f"data.source: {name[:40]!a} is no name of a class"
            raise UserError(f"{told}; allowed: text of one line, at most {LONGEST_CLASS} characters")
    train, notes = source.parts["train"], list(source.notes)
    test, validation = source.parts.get("test"), source.parts.get("validation")
    if test is None:
        _require_two(train, source.classes, "data.source")
        least, most = _bounds(train.labels)
        count = min(max(least, round(TEST_SHARE * len(train.labels))), most)
        kept, held = hold_out(train.labels, train.prints, count)
        train, test = train.take(kept), train.take(held)
    if data.subset is not None:
        train = _subset(train, data.subset, source.classes)
    if validation is not None and (data.folds or isinstance(data.validation, float)):
        said = f"{data.folds} folds" if data.folds else f"data.validation is {data.validation:g}"
        notes.append(
            f"the source's own validation split ({len(validation.labels)} examples) is left out: {said} of the "
            "training examples; null takes its own"
        )
    if data.folds:
        train, validation = _fold(train, data.folds, fold, source.classes)
    elif validation is None or isinstance(data.validation, float):
        share = data.validation if isinstance(data.validation, float) else VALIDATION_SHARE
        _require_two(train, source.classes, "data.validation")
        count, (least, most) = ceil(share * len(train.labels)), _bounds(train.labels)
        if not least <= count <= most:
            raise UserError(
                f"data.validation: {share:g} of {len(train.labels)} examples leaves some class with none on one side; "
                "allowed: a share that gives each class one on both"
            )
        kept, held = hold_out(train.labels, train.prints, count)
        train, validation = train.take(kept), train.take(held)
    splits = {"train": train, "validation": validation, "test": test}
    notes += missing_classes({name: part.labels for name, part in splits.items()}, source.classes)
    notes += repeated_images(
        {name: part.prints[:, 0] for name, part in {**splits, "transfer": transfer}.items() if part is not None},
        train.labels,
        strict=data.strict,
    )
    learnt = train.split(source.top)
    mean, std = _normalisation(data, learnt) or source.normalise or moments(learnt)
    form = (source.top, train.pixels.shape[1:], source.classes)
    unlabelled = [transfer] if transfer else []
    return Dataset(
        source=data.source,
        classes=source.classes,
        train=learnt,
        validation=validation.split(source.top),
        transfer=transfer.split(source.top) if transfer else None,
        mean=mean,
        std=std,
        indices={name: splits[name].rows.tolist() for name in ("train", "validation")},
        digest=_digest(repr((*form, mean, std)), *splits.values(), *unlabelled),
        training_digest=_digest(json.dumps((*form, mean, std)), train, validation, *unlabelled),
        split_digests={name: _digest(repr(form), splits[name]) for name in ("validation", "test")},
        test_sketch=sketch_of(test.prints[:, 0]),
        notes=notes,
        skipped=source.skipped,
        _test=test.split(source.top),
    )


def _digest(form: str, *parts: Part) -> str:
    content = sha256(form.encode())
    for part in parts:
        content.update(f"{len(part.labels)}".encode())
        content.update(np.ascontiguousarray(part.labels).data)
        content.update(np.ascontiguousarray(part.prints).data)
    return content.hexdigest()


def moments(split: Split) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (n - 1) of each channel, of the stored values / `top`, read a chunk at a time.

    The sums of integers are exact. A constant channel's deviation is 1, since it is divided by.
    """
    channels, height, width = split.pixels.shape[1:]
    total = torch.zeros(2, channels, dtype=torch.float64)  # of the values, and of their squares
    for rows in torch.arange(len(split)).split(max(1, CHUNK_VALUES // (channels * height * width))):
        values = split.stored(rows).double()
        total += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
    count = len(split) * height * width
    mean = total[0] / count
    std = ((total[1] - total[0] * mean) / max(1, count - 1)).clamp(min=0).sqrt()
    std = torch.where(std > 0, std / split.top, 1.0)
    return (mean / split.top).tolist(), std.tolist()


def _normalisation(data: Data, images: Split) -> tuple[list[float], list[float]] | None:
    """What the file says of it, if anything."""
    if data.normalise is None:
        return None
    channels = images.pixels.shape[1]
    if len(data.normalise.mean) != channels:
        raise UserError(f"data.normalise: {len(data.normalise.mean)} numbers; the images have {channels} channels")
    return data.normalise.mean, data.normalise.std


def _require_two(part: Part, classes: Sequence[str], field: str) -> None:
    counts = np.bincount(part.labels, minlength=len(classes))
    alone = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    if alone:
        raise UserError(f"{field}: one example alone of {', '.join(alone)}: it can't be split; allowed: two or more")


def _fold(part: Part, folds: int, fold: int, classes: Sequence[str]) -> tuple[Part, Part]:
    counts = np.bincount(part.labels, minlength=len(classes))
    few = [f"{name} has {count}" for name, count in zip(classes, counts, strict=True) if 0 < count < folds]
    if few:
        raise UserError(
            f"data.folds: {folds}, but of training examples {', '.join(few)}; allowed: no more folds than that"
        )
    validated = fold_numbers(part.labels, part.prints, folds) == fold
    return part.take(np.flatnonzero(~validated)), part.take(np.flatnonzero(validated))


def _subset(part: Part, size: int, classes: Sequence[str]) -> Part:
    _require_two(part, classes, "data.subset")
    least, most = _bounds(part.labels)
    if not least <= size <= most:
        raise UserError(f"data.subset: {size} is out of range (allowed: {least} to {most})")
    return part.take(hold_out(part.labels, part.prints, size)[1])


def _bounds(labels: np.ndarray) -> tuple[int, int]:
    """How few and how many examples can be held out."""
    classes = len(np.unique(labels))
    return classes, len(labels) - classes
