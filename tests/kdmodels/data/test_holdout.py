"""Holding examples out: stratified by class, decided by the pixels, and stable when a source grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.data.holdout import bounds, fold_numbers, hold_out, inner_split

PRINTS = np.random.default_rng(0).integers(0, 2**64, (2100, 2), dtype=np.uint64)


def test_a_source_that_grows_keeps_its_splits() -> None:
    """Regression: with a seeded permutation, adding 100 images to 2,000 moved 60 % of the test split into train."""
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
    assert not np.isin(after[2], before[0]).any()  # training examples never move to the test split


@given(st.lists(st.integers(2, 40), min_size=1, max_size=8), st.data())
def test_examples_are_held_out_in_proportion_to_class_sizes(sizes: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = data.draw(st.integers(*bounds(labels)))
    kept, held = hold_out(labels, PRINTS[: len(labels)], count)
    assert len(held) == count
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    counts = np.bincount(labels[held], minlength=len(sizes))
    assert (counts >= 1).all()
    assert (counts < sizes).all()
    exact = count * np.array(sizes) / len(labels)
    if (exact >= 1).all() and (exact <= np.array(sizes) - 1).all():
        assert (np.abs(counts - exact) < 1).all()


def test_the_order_of_a_source_does_not_matter() -> None:
    labels, order = np.arange(50) % 3, np.random.default_rng(1).permutation(50)
    _, held = hold_out(labels, PRINTS[:50], 10)
    _, again = hold_out(labels[order], PRINTS[:50][order], 10)
    assert set(order[again]) == set(held)


def test_equal_images_are_on_the_same_side() -> None:
    prints = np.repeat(PRINTS[:50], 2, axis=0)
    _, held = hold_out(np.zeros(100, int), prints, 30)
    assert set(np.bincount(held // 2)) <= {0, 2}


@given(st.lists(st.integers(5, 40), min_size=1, max_size=6), st.integers(2, 5))
def test_folds_have_equal_shares_of_each_class(sizes: list[int], folds: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    numbers = fold_numbers(labels, PRINTS[: len(labels)], folds)
    for label, size in enumerate(sizes):
        counts = np.bincount(numbers[labels == label], minlength=folds)
        assert counts.sum() == size
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("folds", [2, 3])
def test_equal_images_are_in_the_same_fold_or_in_adjacent_ones(folds: int) -> None:
    prints = np.repeat(PRINTS[:30], 2, axis=0)
    numbers = fold_numbers(np.zeros(60, int), prints, folds)
    assert (np.abs(numbers[::2] - numbers[1::2]) <= 1).all()
    assert (numbers[::2] != numbers[1::2]).sum() < folds


def test_the_inner_split_holds_out_labelled_examples_of_every_class() -> None:
    labels = np.array([0] * 20 + [1] * 10 + [-1] * 30)
    kept, held = inner_split(labels, PRINTS[:60, 0], 0.2)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(60))
    assert np.bincount(labels[held]).tolist() == [4, 2]
    assert np.array_equal(held, hold_out(labels[:30], PRINTS[:30], 6)[1])


def test_the_inner_split_trains_on_the_only_example_of_a_class() -> None:
    labels = np.array([0, 1, 1, 2, -1])
    kept, held = inner_split(labels, PRINTS[:5, 0], 0.2)
    assert labels[held].tolist() == [1]
    assert sorted(labels[kept].tolist()) == [-1, 0, 1, 2]
    assert len(inner_split(np.array([0, 1, -1]), PRINTS[:3, 0], 0.2)[1]) == 0
