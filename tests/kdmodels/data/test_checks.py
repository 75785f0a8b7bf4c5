"""Classes and images that are in one split and another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.data.checks import missing_classes, repeated_images
from kdmodels.errors import UserError

CLASSES = ["cat", "dog", "cow"]


def test_classes_of_one_split_alone() -> None:
    labels = {"train": np.array([0, 1]), "validation": np.array([1, 1]), "test": np.array([0, 1])}
    assert missing_classes(labels, CLASSES) == ["the validation split has no example of cat"]
    with pytest.raises(UserError, match="the test split has classes that train has not: cow; train has: cat, dog"):
        missing_classes(labels | {"test": np.array([2])}, CLASSES)


FEW = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@given(FEW, FEW, st.data())
def test_repeated_images_against_a_naive_count(train: list[int], test: list[int], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(train), max_size=len(train)))
    prints = {"train": np.array(train, np.uint64), "test": np.array(test, np.uint64)}
    shared = sum(image in train for image in test)
    several = sum(
        len({label for own, label in zip(train, labels, strict=True) if own == image}) > 1 for image in set(train)
    )
    told = [f"{shared} of {len(test)} images of test are also in train, pixel by pixel"] if shared else []
    told += [f"{several} images are in train more than once, with different labels"] if several else []
    assert repeated_images(prints, np.array(labels), strict=False) == told
    if shared:
        with pytest.raises(UserError, match=r"data\.strict: "):
            repeated_images(prints, np.array(labels), strict=True)


def test_images_held_out_that_a_student_would_learn_unlabelled_are_told() -> None:
    prints = {"train": np.array([1, 2], np.uint64), "validation": np.array([3, 4], np.uint64),
              "test": np.array([5], np.uint64), "transfer": np.array([4, 5, 6], np.uint64)}  # fmt: skip
    assert repeated_images(prints, np.array([0, 1]), strict=True) == [
        "1 of 1 images of test are also in transfer, pixel by pixel",
        "1 of 2 images of validation are also in transfer, pixel by pixel",
    ]
