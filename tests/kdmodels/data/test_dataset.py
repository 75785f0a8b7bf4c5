"""Splits as rows of one array, and figures read a chunk at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kdmodels.data import Split, dataset
from kdmodels.data.dataset import hold_out, moments

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


PRINTS = np.random.default_rng(0).integers(0, 2**64, (2100, 2), dtype=np.uint64)


def test_a_set_that_grows_keeps_its_splits() -> None:
    """By a seeded permutation of all rows, 100 more images of 2,000 put 60 % of the test split where train had been."""
    labels = np.random.default_rng(1).integers(0, 10, 2100)
    splits = []
    for count in (2000, 2100):
        rest, test = hold_out(labels[:count], PRINTS[:count], round(0.2 * count))
        kept, validation = hold_out(labels[rest], PRINTS[rest], round(0.1 * len(rest)))
        assert np.array_equal(np.sort(np.concatenate([rest[kept], rest[validation], test])), np.arange(count))
        splits.append((rest[kept], rest[validation], test))
    before, after = splits
    for old, new in zip(before, after, strict=True):
        assert len(np.setdiff1d(new[new < 2000], old)) <= 0.06 * len(old)
    assert not np.isin(after[2], before[0]).any()  # what was learnt is not what is measured on


@given(st.lists(st.integers(2, 40), min_size=1, max_size=8), st.data())
def test_each_class_is_held_out_in_its_share_and_on_both_sides(sizes: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = data.draw(st.integers(len(sizes), len(labels) - len(sizes)))
    kept, held = hold_out(labels, PRINTS[: len(labels)], count)
    assert len(held) == count
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    own = np.bincount(labels[held], minlength=len(sizes))
    assert (own >= 1).all()
    assert (own < sizes).all()
    exact = count * np.array(sizes) / len(labels)
    if (exact >= 1).all() and (exact <= np.array(sizes) - 1).all():
        assert (np.abs(own - exact) < 1).all()


def test_splits_do_not_depend_on_the_order_of_a_source() -> None:
    labels, order = np.arange(50) % 3, np.random.default_rng(1).permutation(50)
    _, held = hold_out(labels, PRINTS[:50], 10)
    _, again = hold_out(labels[order], PRINTS[:50][order], 10)
    assert set(order[again]) == set(held)


def test_equal_images_are_on_one_side() -> None:
    prints = np.repeat(PRINTS[:50], 2, axis=0)
    _, held = hold_out(np.zeros(100, int), prints, 30)
    assert set(np.bincount(held // 2)) <= {0, 2}
