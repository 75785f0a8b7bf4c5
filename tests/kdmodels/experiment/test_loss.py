"""Hyperparameters of losses accept the values of their intervals only."""

import pytest

from kdmodels.experiment.loss import Hyperparameter


@pytest.mark.parametrize(
    ("value", "allowed"), [(0, True), (0.99, True), (1, False), (-0.01, False), (True, False), (float("nan"), False)]
)
def test_an_interval_with_its_low_end_and_without_its_high_end(value: float, allowed: bool) -> None:
    interval = Hyperparameter(0.1, low=0, high=1, low_inclusive=True)
    assert (interval.problem(value) is None) is allowed


@pytest.mark.parametrize(("value", "allowed"), [(0, False), (1e-9, True), (10**400, False), (float("inf"), False)])
def test_an_open_interval_without_a_high_end(value: float, allowed: bool) -> None:
    assert (Hyperparameter(4.0, low=0).problem(value) is None) is allowed
