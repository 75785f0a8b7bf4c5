"""Splits as rows of one array, and figures read a chunk at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kdmodels.data import Split, dataset
from kdmodels.data.dataset import hold_out, hold_out_by_content, moments
from kdmodels.errors import UserError

PIXELS = torch.arange(5 * 2 * 3 * 4, dtype=torch.uint8).view(5, 2, 3, 4)


def test_a_split_is_some_rows_of_the_pixels_in_its_own_order() -> None:
    part = Split(PIXELS, torch.tensor([1, 0, 1]), top=255, rows=torch.tensor([4, 0, 2]))
    assert len(part) == 3
    assert torch.equal(part.images, PIXELS[[4, 0, 2]].float() / 255)
    assert torch.equal(part.batch(torch.tensor([[2, 0]])), PIXELS[[2, 4]][None].float() / 255)
    assert torch.equal(Split(PIXELS, torch.zeros(5), top=255).images, PIXELS.float() / 255)


SHAPES = arrays.array_shapes(min_dims=4, max_dims=4, max_side=5)


@given(arrays.arrays(np.uint8, SHAPES) | arrays.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)))
def test_moments_are_those_of_numpy_whatever_the_chunks(pixels: np.ndarray) -> None:
    part = Split(torch.from_numpy(pixels), torch.zeros(len(pixels)), top=255 if pixels.dtype == np.uint8 else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "CHUNK_VALUES", 2 * pixels[0].size)
        mean, std = moments(part)
    values = pixels.astype(np.float64) / part.top
    assert mean == pytest.approx(values.mean(axis=(0, 2, 3)).tolist(), rel=1e-9)
    for own, channel in zip(std, values.transpose(1, 0, 2, 3).reshape(pixels.shape[1], -1), strict=True):
        expected = channel.std(ddof=1) if channel.min() < channel.max() else 1.0  # a constant channel is divided by 1
        assert own == pytest.approx(expected, rel=1e-3)


def test_moments_of_some_rows_are_of_those_alone() -> None:
    part = Split(PIXELS, torch.zeros(2), top=1, rows=torch.tensor([3, 1]))
    assert moments(part)[0] == [PIXELS[[3, 1], channel].double().mean().item() for channel in (0, 1)]


def test_what_can_not_be_held_out_says_what_is_allowed() -> None:
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(
        UserError, match=r"data\.validation: 0\.1 of 4 .*; allowed: a share that gives each class one on"
    ):
        hold_out(labels, 0.1)


def test_a_set_that_grows_keeps_its_test_split() -> None:
    """By a seeded permutation of all rows, 100 more images of 2,000 put 60 % of the test split where train had been."""
    generator = np.random.default_rng(0)
    prints = generator.integers(0, 2**64, (2100, 2), dtype=np.uint64)
    labels = generator.integers(0, 10, 2100)
    _, before = hold_out_by_content(labels[:2000], prints[:2000], 0.2)
    kept, after = hold_out_by_content(labels, prints, 0.2)
    assert np.array_equal(np.sort(np.concatenate([kept, after])), np.arange(2100))
    old = after[after < 2000]
    assert len(np.setdiff1d(old, before)) <= 0.02 * len(old)
    for label in range(10):
        assert (labels[after] == label).sum() == round(0.2 * (labels == label).sum())


def test_the_test_split_does_not_depend_on_the_order_of_a_source() -> None:
    generator = np.random.default_rng(1)
    prints, labels = generator.integers(0, 2**64, (50, 2), dtype=np.uint64), np.arange(50) % 3
    order = generator.permutation(50)
    _, held = hold_out_by_content(labels, prints, 0.2)
    _, again = hold_out_by_content(labels[order], prints[order], 0.2)
    assert set(order[again]) == set(held)


def test_each_class_is_tested_and_learnt_however_small_it_is() -> None:
    prints = np.random.default_rng(2).integers(0, 2**64, (4, 2), dtype=np.uint64)
    for share in (0.01, 0.99):
        kept, held = hold_out_by_content(np.array([0, 0, 1, 1]), prints, share)
        assert len(kept) == len(held) == 2
