"""Checks of a dataset before training starts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdmodels.data.files import listed
from kdmodels.errors import UserError
from kdmodels.experiment.data import REST

LONGEST_CLASS = 255  # maximum number of characters of a class name; the same maximum as for the name of a folder
TRANSFER = "transfer"  # what notes call the unlabelled images that do not come from the source
PAIRS = (
    ("test", "train"),
    ("test", REST),
    ("test", TRANSFER),
    ("validation", "train"),
    ("validation", REST),
    ("validation", TRANSFER),
    ("test", "validation"),
)
OF_TRAINING_SPLIT = ("train", REST)


def require_printable(classes: Sequence[str]) -> None:
    """Raise a UserError if a class name is too long, or is not one line of printable text."""
    for name in classes:
        if not name.isprintable() or len(name) > LONGEST_CLASS:
            raise UserError(
                f"data.source: {name[:40]!a} can't be a class name. "
                f"Allowed: one line of printable text, at most {LONGEST_CLASS} characters"
            )


def require_two(labels: np.ndarray, classes: Sequence[str], field: str) -> None:
    """Raise a UserError if a class has only one example, because such a class can't be split into two parts.

    Args:
        labels: The labels of the examples, (N,).
        classes: The class names.
        field: The field of the experiment that requires the split, for the error message.
    """
    counts = np.bincount(labels, minlength=len(classes))
    single = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    if single:
        raise UserError(
            f"{field}: expected at least 2 examples of each class to split, got 1 of {listed(single)}. "
            "Allowed: 2 or more, or none"
        )


def missing_classes(labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[str]:
    """Return a note for each split that lacks a class of the training split.

    Args:
        labels: The labels of each split, (N,), by the name of the split.
        classes: The class names.

    Raises:
        UserError: The validation or test split has a class that the training split lacks. No network can learn such a
            class.
    """
    present = {split: set(np.unique(codes).tolist()) for split, codes in labels.items()}
    train = present["train"]
    notes = []
    for split, codes in present.items():
        unknown = [classes[code] for code in sorted(codes - train)]
        if unknown:
            raise UserError(
                f"data.source: the {split} split has classes that the train split lacks: {listed(unknown)}. "
                f"Allowed: {listed([classes[code] for code in sorted(train)])}"
            )
        absent = [classes[code] for code in sorted(train - codes)]
        if absent:
            notes.append(f"the {split} split has no example of {listed(absent)}")
    return notes


def repeated_images(prints: Mapping[str, np.ndarray], train_labels: np.ndarray, *, strict: bool) -> list[str]:
    """Return notes on images that occur in two splits, and on training images that occur with several labels.

    Args:
        prints: The fingerprints (hashes) of each split's images, (N,) uint64, by the name of the split. Two
            fingerprints are equal if and only if the pixels are equal. `rest` holds the training examples whose labels
            are not used, and `transfer` holds unlabelled images from another source.
        train_labels: The labels of the examples in `train`, (N,).
        strict: Whether to raise an error instead of returning a note if `train` or `rest` shares an image with `test`.

    Raises:
        UserError: `strict` is true, and `train` or `rest` shares an image with `test`.
    """
    notes = []
    for first, second in PAIRS:
        if first not in prints or second not in prints:
            continue
        count = int(np.isin(prints[first], prints[second]).sum())
        note = f"{count} of {len(prints[first])} images of {first} are also in {second}, with identical pixels"
        if count and strict and first == "test" and second in OF_TRAINING_SPLIT:
            raise UserError(f"data.strict: {note}. Allowed: none, or data.strict: false")
        if count:
            notes.append(note)
    labels = pd.Series(train_labels).groupby(prints["train"]).nunique()
    several = int((labels > 1).sum())
    if several:
        notes.append(f"{several} images occur more than once in train, with different labels")
    return notes


def trained_images(prints: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the fingerprints of the training images that are in neither the validation split nor the test split.

    An image can be in several splits if the source contains the image more than once. Such images are left out, because
    `repeated_images` already returns a note on these images.

    Args:
        prints: The fingerprints (hashes) of the images of the data, (N,) uint64, by the name of the split.

    Returns:
        The fingerprints, (M,) uint64, sorted and without repetitions.
    """
    return np.setdiff1d(prints["train"], np.concatenate([prints["validation"], prints["test"]]))


def count_trained(trained: np.ndarray, students: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count the students' validation and test images on which a teacher was trained.

    Args:
        trained: The fingerprints that `trained_images` returned for the teacher's data, (M,) uint64.
        students: The fingerprints of the images of the students' data, (N,) uint64, by the name of the split.

    Returns:
        Two counts, by the name of the split: `validation` and `test`.
    """
    return {split: int(np.isin(students[split], trained).sum()) for split in ("validation", "test")}


def require_unseen(teacher: Mapping[str, np.ndarray], students: Mapping[str, np.ndarray]) -> None:
    """Raise a UserError if a teacher would be trained on validation or test images of the students.

    Images that are also in the teacher's own validation or test split do not count.

    Args:
        teacher: The fingerprints (hashes) of the images of the teacher's data, (N,) uint64, by the name of the split.
        students: The fingerprints of the images of the students' data, (M,) uint64, by the name of the split.

    Raises:
        UserError: The training images of the teacher include a validation or test image of the students.
    """
    for split, count in count_trained(trained_images(teacher), students).items():
        if count:
            raise UserError(
                f"teacher.data: the teacher would be trained on {count} of the {len(students[split])} {split} images "
                "of the students. Allowed: none. Set a larger teacher.data.subset or teacher.data.validation, so that "
                "these images are held out"
            )
