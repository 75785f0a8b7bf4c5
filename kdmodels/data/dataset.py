"""A dataset with a training, a validation and a test split. Only tasks/held_out.py reads the test split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import ceil
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from kdmodels.data.checks import TRANSFER, missing_classes, repeated_images, require_printable, require_two
from kdmodels.data.files import listed
from kdmodels.data.holdout import bounds, fold_numbers, hold_out, inner_split
from kdmodels.data.parts import Part, Source
from kdmodels.data.split import Joined, Split
from kdmodels.data.training_examples import choose_training_examples, take_stratified
from kdmodels.errors import UsageError
from kdmodels.evaluation.looks import sketch_of
from kdmodels.experiment.data import REST, Data

TEST_SHARE = 0.2  # share of the examples that is held out for testing if the source has no test split
INNER_SHARE = 0.2  # share of the training examples on which the trials of a hyperparameter search are compared
VALIDATION_SHARE = 0.1  # share of the examples that is held out for validation if the source has no validation split
CHUNK_VALUES = 2**20  # number of pixel values that are read at once when all pixels are read


class Form(NamedTuple):
    """The properties of a dataset that its digests cover, in addition to the examples.

    Attributes:
        top: The largest possible value of a pixel.
        shape: The shape (C, H, W) of one image.
        classes: The class names. A label is an index into this list.
        mean: The mean of each channel for the normalisation of pixels in [0, 1].
        std: The standard deviation of each channel for the normalisation of pixels in [0, 1].
    """

    top: int
    shape: tuple[int, ...]
    classes: list[str]
    mean: list[float]
    std: list[float]

    def training_digest(self, *parts: Part) -> str:
        """Return the digest of the training split, the validation split and, if used, further examples."""
        return _digest(json.dumps(self), *parts)

    def split_digest(self, part: Part) -> str:
        """Return the digest of one split. The digest does not depend on the normalisation."""
        return _digest(repr(self[:3]), part)

    def whole_digest(self, *parts: Part) -> str:
        """Return the digest of all splits, including the test split."""
        return _digest(repr(tuple(self)), *parts)


@dataclass(frozen=True)
class Dataset:
    """A dataset with its splits, its class names, and digests of its content.

    The test split is read only through `read_test`. Code that trains or selects models must not call `read_test`.

    Args:
        source: The name of the source in the experiment file.
        classes: The class names. A label is an index into this list.
        train: The labelled training split, from which teachers and controls learn. Controls are students without a
            teacher.
        validation: The labelled validation split.
        distilled: The examples of `train` from which distilled students learn. The same object as `train`, unless
            `data.transfer.classes` or `data.transfer.alone` is set.
        transfer: Unlabelled images from which distilled students also learn. `None` if the experiment has no such
            images.
        mean: The mean of each channel for the normalisation of pixels in [0, 1].
        std: The standard deviation of each channel for the normalisation of pixels in [0, 1].
        indices: The rows of the examples in the source's arrays of pixels, by the name of the split. The names are
            `train` and `validation`. If `data.transfer.unlabelled` is `rest`, there is also `rest`.
        digest: The digest of all splits, the class names and the normalisation.
        training_digest: The digest of the data that teachers and controls use: the training and the validation split.
        distillation_digest: The digest of the data that distilled students use: the content of `training_digest` and
            the examples that `data.transfer` selects. Without `data.transfer`, both digests are equal.
        split_digests: The digests of the splits `validation` and `test`, by the name of the split.
        prints: The fingerprints (hashes) of the images, (N,) uint64, by the name of the split: `train`, `validation` or
            `test`.
        test_sketch: Hashes of some test images. Comparing the sketches of two test splits shows how much the splits
            overlap.
        notes: Facts about the data that the user should know.
        skipped: Images that were left out, each with the reason.
    """

    source: str
    classes: list[str]
    train: Split
    validation: Split
    distilled: Split
    transfer: Split | None
    mean: list[float]
    std: list[float]
    indices: dict[str, list[int]]
    digest: str
    training_digest: str
    distillation_digest: str
    split_digests: dict[str, str]
    prints: dict[str, np.ndarray] = field(repr=False)
    test_sketch: tuple[int, ...]
    notes: list[str]
    skipped: list[str]
    _test: Split | None = field(repr=False)  # None if the dataset comes from the tracking store

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def signature(self) -> dict[str, Any]:
        """Keyword arguments for `kdmodels.networks.build` that describe the data."""
        return {"input_shape": self.input_shape, "classes": len(self.classes), "mean": self.mean, "std": self.std}

    @property
    def distillation_split(self) -> Split:
        """The examples from which distilled students learn: `distilled`, followed by `transfer`.

        The teacher's outputs are computed for these examples.
        """
        if self.transfer is None:
            return self.distilled
        labels = torch.cat([self.distilled.labels, self.transfer.labels])
        return Joined(self.train.pixels, labels, self.train.top, first=self.distilled, second=self.transfer)

    @property
    def repeated(self) -> Split:
        """The labelled training split, repeated or cut to as many examples as `distillation_split`.

        The control with equal steps learns from this split. Each of its epochs then has as many steps as an epoch of a
        distilled student.
        """
        return self.resized(torch.arange(len(self.train)), len(self.distillation_split))

    def resized(self, rows: Tensor, size: int) -> Split:
        """Return a split of `size` examples, in which training examples are repeated.

        If the last repetition is incomplete, it holds the examples with the lowest fingerprints. The choice therefore
        depends only on the images.

        Args:
            rows: The indices of the training examples that are repeated, (N,).
            size: The number of examples of the result. If `size` is below N, some examples are left out.
        """
        whole, rest = divmod(size, len(rows))
        prints = self.prints["train"][rows.numpy()]
        first = np.sort(np.argsort(prints, kind="stable")[:rest])
        return self.train.take(torch.cat([rows.repeat(whole), rows[torch.from_numpy(first)]]))

    @property
    def inner_rows(self) -> tuple[Tensor, Tensor]:
        """The indices of two parts of the training split, for a hyperparameter search.

        The trials of the search are trained on the first part and compared on the second part.

        Raises:
            UserError: No class has two labelled training examples.
        """
        kept, held = inner_split(self.train.labels.numpy(), self.prints["train"], INNER_SHARE)
        if not len(held):
            raise UsageError(
                "tune: no class has 2 labelled training images, so none can be held out. Allowed: null, or more labels"
            )
        return torch.from_numpy(kept), torch.from_numpy(held)

    @property
    def test_examples(self) -> int:
        """Number of examples in the test split. 0 if the dataset comes from the tracking store."""
        return 0 if self._test is None else len(self._test)

    @property
    def test(self) -> NoReturn:
        """Raise an error, because training and model selection must not depend on the test split.

        Raises:
            RuntimeError: This error is always raised.
        """
        raise RuntimeError("training and selection must not read the test split; only promotion reads it")

    def read_test(self) -> Split:
        """Return the test split. Only the promotion step is allowed to call this method.

        Raises:
            RuntimeError: The dataset comes from the tracking store, which does not hold the test split.
        """
        if self._test is None:
            raise RuntimeError(f"{self.source}: the copy in the tracking store has no test split")
        return self._test


def assemble(source: Source, data: Data, images: Part | None = None, *, fold: int = 0) -> Dataset:
    """Create a dataset from a source: split the source, check the splits, and compute normalisation and digests.

    Args:
        source: The source.
        data: The `data` section of the experiment.
        images: The unlabelled images that do not come from the source. They come from the folder or zip file in
            `data.transfer.unlabelled` or from a generator, or they are noise. Their size and number of channels are
            those of the source's images. `None` if the experiment has no such images.
        fold: The number of the fold that is the validation split, counted from 0. Used only if `data.folds` is set.

    Raises:
        UserError: A class name can't be printed, a class has too few examples, or a setting of `data` does not fit the
            source. The same error is raised if `data.strict` is true and a test image is also a training image.
    """
    require_printable(source.classes)
    train, test = _train_and_test(source)
    if data.subset is not None:
        _, train = take_stratified(train, data.subset, source.classes, "data.subset")
    train, validation, notes = _train_and_validation(train, source, data, fold)
    chosen = choose_training_examples(train, images, data, source.classes)
    splits = {"train": chosen.labelled, "validation": validation, "test": test}
    transfer = {} if chosen.unlabelled is None else {REST if images is None else TRANSFER: chosen.unlabelled}
    parts = {**splits, **transfer}
    notes += chosen.notes
    notes += missing_classes({name: part.labels for name, part in splits.items()}, source.classes)
    prints = {name: part.prints[:, 0] for name, part in parts.items()}
    notes += repeated_images(prints, chosen.labelled.labels, strict=data.strict)
    training = chosen.labelled.split(source.top)
    mean, std = _normalisation(data, training) or source.normalise or moments(training)
    form = Form(source.top, chosen.labelled.pixels.shape[1:], source.classes, mean, std)
    more = [*transfer.values(), *([] if chosen.distilled is chosen.labelled else [chosen.distilled])]
    return Dataset(
        source=data.source,
        classes=source.classes,
        train=training,
        validation=validation.split(source.top),
        distilled=training if chosen.distilled is chosen.labelled else chosen.distilled.split(source.top),
        transfer=chosen.unlabelled.split(source.top) if chosen.unlabelled else None,
        mean=mean,
        std=std,
        indices={name: part.rows.tolist() for name, part in parts.items() if name in ("train", "validation", REST)},
        digest=form.whole_digest(*splits.values(), *more),
        training_digest=form.training_digest(chosen.labelled, validation),
        distillation_digest=form.training_digest(chosen.labelled, validation, *more),
        split_digests={name: form.split_digest(splits[name]) for name in ("validation", "test")},
        prints={name: part.prints[:, 0] for name, part in splits.items()},
        test_sketch=sketch_of(test.prints[:, 0]),
        notes=[*source.notes, *notes],
        skipped=source.skipped,
        _test=test.split(source.top),
    )


def _train_and_test(source: Source) -> tuple[Part, Part]:
    """Return the training and the test split. If the source has no test split, hold out `TEST_SHARE` of its data."""
    train, test = source.parts["train"], source.parts.get("test")
    if test is not None:
        return train, test
    require_two(train.labels, source.classes, "data.source")
    least, most = bounds(train.labels)
    kept, held = hold_out(train.labels, train.prints, min(max(least, round(TEST_SHARE * len(train.labels))), most))
    return train.take(kept), train.take(held)


def _train_and_validation(train: Part, source: Source, data: Data, fold: int) -> tuple[Part, Part, list[str]]:
    """Return the training split, the validation split, and notes for the user.

    If `data.folds` or a share in `data.validation` is set, the validation examples are held out of `train`. Otherwise,
    the source's validation split is used. Without such a split, `VALIDATION_SHARE` of `train` is held out.

    If the source has a validation split that is not used, a note says so.
    """
    validation, notes = source.parts.get("validation"), []
    if validation is not None and (data.folds or isinstance(data.validation, float)):
        setting = f"data.folds is {data.folds}" if data.folds else f"data.validation is {data.validation:g}"
        notes.append(
            f"the source's own validation split ({len(validation.labels)} examples) is left out, because {setting}: "
            "validation examples are held out of the training split. To use the source's own, set data.validation: null"
        )
    if data.folds:
        return *_fold(train, data.folds, fold, source.classes), notes
    if validation is None or isinstance(data.validation, float):
        share = data.validation if isinstance(data.validation, float) else VALIDATION_SHARE
        return *_without_share(train, share, source.classes), notes
    return train, validation, notes


def _fold(part: Part, folds: int, fold: int, classes: Sequence[str]) -> tuple[Part, Part]:
    """Return the training and the validation examples of one fold of cross-validation.

    Args:
        part: The examples of all folds.
        folds: The number of folds.
        fold: The number of the fold whose examples are the validation examples, counted from 0.
        classes: The class names.

    Raises:
        UserError: A class has fewer examples than there are folds.
    """
    counts = np.bincount(part.labels, minlength=len(classes))
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if 0 < count < folds]
    if few:
        raise UsageError(
            f"data.folds: {folds} is more than the training examples of {listed(few)}. "
            f"Allowed: at most {min(counts[counts > 0])}, or more examples"
        )
    is_held_out = fold_numbers(part.labels, part.prints, folds) == fold
    return part.take(np.flatnonzero(~is_held_out)), part.take(np.flatnonzero(is_held_out))


def _without_share(part: Part, share: float, classes: Sequence[str]) -> tuple[Part, Part]:
    """Hold out a share of the examples as the validation split, stratified by class.

    Returns:
        The kept examples, and the held-out examples.

    Raises:
        UserError: A class has only one example, or would have no kept or no held-out example.
    """
    require_two(part.labels, classes, "data.validation")
    count, (least, most) = ceil(share * len(part.labels)), bounds(part.labels)
    if not least <= count <= most:
        raise UsageError(
            f"data.validation: {share:g} of {len(part.labels)} examples leaves a class without an example on one side. "
            f"Allowed: a share of {least} to {most} examples"
        )
    kept, held = hold_out(part.labels, part.prints, count)
    return part.take(kept), part.take(held)


def _digest(form: str, *parts: Part) -> str:
    content = sha256(form.encode())
    for part in parts:
        content.update(f"{len(part.labels)}".encode())
        content.update(np.ascontiguousarray(part.labels).data)
        content.update(np.ascontiguousarray(part.prints).data)
    return content.hexdigest()


def _normalisation(data: Data, images: Split) -> tuple[list[float], list[float]] | None:
    """Return the mean and the standard deviation of each channel from `data.normalise`.

    Args:
        data: The `data` section of the experiment.
        images: The training split. Its number of channels must equal the number of values in `data.normalise`.

    Returns:
        The means and the standard deviations. `None` if `data.normalise` is not set.

    Raises:
        UserError: The number of values in `data.normalise` is not the number of channels.
    """
    if data.normalise is None:
        return None
    channels, numbers = images.pixels.shape[1], len(data.normalise.mean)
    if numbers != channels:
        raise UsageError(f"data.normalise: expected one number per channel, got {numbers}. Allowed: {channels}")
    return data.normalise.mean, data.normalise.std


def moments(split: Split) -> tuple[list[float], list[float]]:
    """Return the mean and the sample standard deviation (n - 1) of each channel, for pixels in [0, 1].

    Pixels are read in chunks. For integer pixels, the sums are exact. If a channel is constant, the returned standard
    deviation is 1, so that images can be divided by the value.
    """
    channels, height, width = split.pixels.shape[1:]
    total = torch.zeros(2, channels, dtype=torch.float64)  # sums of the values, and sums of their squares
    for rows in torch.arange(len(split)).split(max(1, CHUNK_VALUES // (channels * height * width))):
        values = split.stored(rows).double()
        total += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
    count = len(split) * height * width
    mean = total[0] / count
    std = ((total[1] - total[0] * mean) / max(1, count - 1)).clamp(min=0).sqrt()
    std = torch.where(std > 0, std / split.top, 1.0)
    return (mean / split.top).tolist(), std.tolist()
