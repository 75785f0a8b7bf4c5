"""Metrics of an epoch."""

import pytest
import torch

from kdmodels.experiment import Term
from kdmodels.training import metrics

CPU = torch.device("cpu")


def test_weights_follow_the_terms_schedules() -> None:
    terms = [Term(loss="hard_labels", weight=2.0), Term(loss="soft_targets", weight=4.0, warmup=0.5)]
    weights = metrics.weights([terms, terms[:1] + terms[:1]], [0.0, 0.25, 1.0], CPU)  # (N, W, S)
    assert weights[:, :, 0].tolist() == [[2.0, 0.0], [2.0, 2.0], [2.0, 4.0]]
    assert weights[:, :, 1].tolist() == [[2.0, 2.0]] * 3


def test_the_loss_is_the_weighted_sum_of_the_first_values() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])  # (1, 3, 2): the third value is a probe's
    loss = metrics.with_loss(values, torch.tensor([[[0.5, 1.0], [2.0, 3.0]]]))  # (1, 2, 2)
    assert loss.tolist() == [[[6.5, 14.0], [1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]]


def test_means_count_every_example_once() -> None:
    assert metrics.means(torch.tensor([[[1.0]], [[4.0]]]), [3, 1]).tolist() == [[1.75]]


@pytest.mark.parametrize(("rows", "names"), [
    ([[1.0, 1.0, 1.0]], []),
    ([[1.0, 1.0, 1.0], [float("nan"), float("nan"), 1.0]], ["a"]),
    ([[float("inf"), 1.0, 1.0]], ["loss"]),
])  # fmt: skip
def test_the_first_infinite_or_nan_values_are_named(rows: list[list[float]], names: list[str]) -> None:
    assert metrics.first_nonfinite(torch.tensor(rows), ["loss", "a", "b"]) == names
