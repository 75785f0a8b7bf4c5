"""Parts of a source: views of shared pixels, grouped by split."""

import numpy as np
import torch

from kdmodels.data.parts import Part, ordered, parts_of

PIXELS = np.arange(6 * 2 * 2, dtype=np.uint8).reshape(6, 1, 2, 2)
PRINTS = np.arange(12, dtype=np.uint64).reshape(6, 2)


def test_examples_are_grouped_by_split_and_share_the_pixels() -> None:
    splits = np.array(["train", "test", "train", "test", "train", "train"], dtype=object)
    parts = parts_of(PIXELS, PRINTS, splits, np.arange(6))
    assert list(parts) == ["train", "test"]
    assert parts["test"].labels.tolist() == parts["test"].rows.tolist() == [1, 3]
    assert np.array_equal(parts["train"].prints, PRINTS[[0, 2, 4, 5]])
    assert parts["train"].pixels is parts["test"].pixels is PIXELS


def test_taking_examples_and_making_a_split_copies_no_pixels() -> None:
    part = Part(PIXELS, np.arange(6), PRINTS, np.arange(6)).take(np.array([5, 1]))
    split = part.split(top=255)
    assert split.pixels.data_ptr() == PIXELS.ctypes.data
    assert torch.equal(split.images, torch.from_numpy(PIXELS[[5, 1]]) / 255)
    assert Part(PIXELS, np.arange(6), PRINTS, np.arange(6)).split(top=255).rows is None


def test_names_with_too_many_digits_for_python_are_sorted_as_text() -> None:
    assert ordered({"10", "9"}) == ["9", "10"]
    assert ordered({"9" * 5000, "10"}) == ["10", "9" * 5000]
