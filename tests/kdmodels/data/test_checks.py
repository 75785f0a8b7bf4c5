"""Checks: classes missing from a split, and images shared between splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.data.checks import missing_classes, repeated_images, require_unseen
from kdmodels.errors import UserError

CLASSES = ["cat", "dog", "cow"]


def test_classes_missing_from_a_split_are_noted_or_refused() -> None:
    labels = {"train": np.array([0, 1]), "validation": np.array([1, 1]), "test": np.array([0, 1])}
    assert missing_classes(labels, CLASSES) == ["the validation split has no example of cat"]
    with pytest.raises(
        UserError, match=r"the test split has classes that the train split lacks: cow\. Allowed: cat, dog"
    ):
        missing_classes(labels | {"test": np.array([2])}, CLASSES)


FEW = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@given(FEW, FEW, st.data())
def test_repeated_images_match_a_naive_count(train: list[int], test: list[int], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(train), max_size=len(train)))
    prints = {"train": np.array(train, np.uint64), "test": np.array(test, np.uint64)}
    shared = sum(image in train for image in test)
    several = sum(
        len({label for other, label in zip(train, labels, strict=True) if other == image}) > 1 for image in set(train)
    )
    notes = [f"{shared} of {len(test)} images of test are also in train, with identical pixels"] if shared else []
    notes += [f"{several} images occur more than once in train, with different labels"] if several else []
    assert repeated_images(prints, np.array(labels), strict=False) == notes
    if shared:
        with pytest.raises(UserError, match=r"data\.strict: "):
            repeated_images(prints, np.array(labels), strict=True)


def test_an_image_may_occur_with_and_without_its_label_but_not_in_test() -> None:
    prints = {"train": np.array([1, 2], np.uint64), "rest": np.array([2, 3], np.uint64),
              "test": np.array([4], np.uint64)}  # fmt: skip
    assert repeated_images(prints, np.array([0, 1]), strict=True) == []
    with pytest.raises(UserError, match=r"^data\.strict: 1 of 1 images of test are also in rest"):
        repeated_images(prints | {"test": np.array([3], np.uint64)}, np.array([0, 1]), strict=True)


def test_held_out_images_among_the_unlabelled_ones_are_noted() -> None:
    prints = {"train": np.array([1, 2], np.uint64), "validation": np.array([3, 4], np.uint64),
              "test": np.array([5], np.uint64), "transfer": np.array([4, 5, 6], np.uint64)}  # fmt: skip
    assert repeated_images(prints, np.array([0, 1]), strict=True) == [
        "1 of 1 images of test are also in transfer, with identical pixels",
        "1 of 2 images of validation are also in transfer, with identical pixels",
    ]


@given(FEW, FEW, FEW, FEW, FEW)
def test_a_teacher_may_see_no_held_out_image_of_the_students(
    train: list[int], validation: list[int], test: list[int], own_validation: list[int], own_test: list[int]
) -> None:
    students = {"validation": np.array(validation, np.uint64), "test": np.array(test, np.uint64)}
    teacher = {"train": np.array(train, np.uint64), "validation": np.array(own_validation, np.uint64),
               "test": np.array(own_test, np.uint64)}  # fmt: skip
    repeated = {*own_validation, *own_test}  # images that the teacher's source contains more than once
    counts = [sum(image in train and image not in repeated for image in split) for split in (validation, test)]
    if not any(counts):
        require_unseen(teacher, students)
        return
    count, split = (counts[0], "validation") if counts[0] else (counts[1], "test")
    line = (
        rf"^teacher\.data: the teacher would be trained on {count} of the \d {split} images of the students\. Allowed"
    )
    with pytest.raises(UserError, match=line):
        require_unseen(teacher, students)
