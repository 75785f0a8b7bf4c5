"""What is looked at in a dataset before anything trains."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdmodels.data.files import listed
from kdmodels.errors import UserError


def missing_classes(labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[str]:
    """A note for each split that has no example of some class.

    Raises:
        UserError: a class is in another split and not in train, where it can't be learnt.
    """
    present = {split: set(np.unique(own).tolist()) for split, own in labels.items()}
    notes = []
    for split, own in present.items():
        unknown = [classes[label] for label in sorted(own - present["train"])]
        if unknown:
            raise UserError(
                f"data.source: the {split} split has classes that train has not: {listed(unknown)}; "
                f"train has: {listed([classes[label] for label in sorted(present['train'])])}"
            )
        absent = [classes[label] for label in sorted(present["train"] - own)]
        if absent:
            notes.append(f"the {split} split has no example of {listed(absent)}")
    return notes


def repeated_images(prints: Mapping[str, np.ndarray], train_labels: np.ndarray, *, strict: bool) -> list[str]:
    """A note for each two splits that share images, and one for images of train with several labels.

    Args:
        prints: (N,) uint64 of each split's images: equal for equal pixels.
        train_labels: (N,), of train.

    Raises:
        UserError: train and test share images, and `strict`.
    """
    notes = []
    for first, second in [("test", "train"), ("test", "transfer"), ("validation", "train"), ("validation", "transfer"),
                          ("test", "validation")]:  # fmt: skip
        if first not in prints or second not in prints:
            continue
        count = int(np.isin(prints[first], prints[second]).sum())
        told = f"{count} of {len(prints[first])} images of {first} are also in {second}, pixel by pixel"
        if count and strict and (first, second) == ("test", "train"):
            raise UserError(f"data.strict: {told}; allowed: none, or data.strict: false")
        notes += [told] if count else []
    labels = pd.Series(train_labels).groupby(prints["train"]).nunique()
    several = int((labels > 1).sum())
    if several:
        notes.append(f"{several} images are in train more than once, with different labels")
    return notes
