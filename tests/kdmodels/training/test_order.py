"""Batches and the classes in them."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from kdmodels.training.batches import class_balance, order

LABELS = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)


def test_classes_count_alike_and_the_mean_weight_is_one() -> None:
    weights = class_balance(LABELS)[LABELS]
    assert weights.mean().item() == pytest.approx(1.0)
    for label, count in enumerate((900, 90, 10)):
        assert weights[label == LABELS].unique().item() == pytest.approx(1000 / (3 * count))


def test_classes_are_drawn_equally_often_and_so_are_examples_within_a_class() -> None:
    drawn = torch.cat([order(1000, 0, epoch, class_balance(LABELS)[LABELS]) for epoch in range(1, 21)])
    assert chisquare(np.bincount(LABELS[drawn])).pvalue > 1e-3
    assert chisquare(np.bincount(drawn[drawn >= 990] - 990)).pvalue > 1e-3


def test_an_epochs_draws_are_a_function_of_seed_and_epoch() -> None:
    chances = class_balance(LABELS)[LABELS]
    torch.manual_seed(1)
    one = order(1000, 0, 1, chances)
    torch.manual_seed(2)
    assert torch.equal(order(1000, 0, 1, chances), one)
    assert not torch.equal(order(1000, 0, 2, chances), one)
    assert not torch.equal(order(1000, 1, 1, chances), one)
    assert order(1000, 0, 1).sort().values.equal(torch.arange(1000))


def test_unknown_labels_and_absent_classes_do_not_count() -> None:
    assert class_balance(torch.tensor([0, 0, 2, -1, -1])).tolist() == pytest.approx([3 / 4, 0, 3 / 2])


def test_the_last_rows_of_a_large_data_set_are_drawn() -> None:
    """A running sum in float32 stood still after 2^19: none of the last rows of the common class was ever drawn."""
    labels = (torch.arange(1_200_000) % 2) * torch.arange(1_200_000).remainder(99).add(1)  # 0 for every other row
    drawn = order(len(labels), 0, 1, class_balance(labels)[labels])
    common = drawn[labels[drawn] == 0]
    assert len(common) / len(drawn) == pytest.approx(0.01, rel=0.05)
    assert (common > 1_020_000).double().mean().item() == pytest.approx(0.15, rel=0.1)
