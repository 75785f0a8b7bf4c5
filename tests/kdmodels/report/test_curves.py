"""Learning curves over seeds that stop early, diverge and are not validated in each epoch."""

import math

from kdmodels.report.curves import MOST_POINTS, Point, curves


def test_a_point_is_the_mean_the_lowest_and_the_highest_seed() -> None:
    histories = [[{"val/accuracy": 0.5}], [{"val/accuracy": 0.6}], [{"val/accuracy": 0.9}]]
    assert curves(histories) == {"val/accuracy": [Point(1, 0.66667, 0.5, 0.9)]}


def test_epochs_without_a_value_and_values_that_are_not_finite_are_left_out() -> None:
    first = [{"train/loss": 2.0}, {"train/loss": 1.0, "val/accuracy": 0.5}]
    second = [{"train/loss": math.inf}, {"train/loss": math.nan}]
    result = curves([first, second])
    assert result["train/loss"] == [Point(1, 2.0, 2.0, 2.0), Point(2, 1.0, 1.0, 1.0)]
    assert result["val/accuracy"] == [Point(2, 0.5, 0.5, 0.5)]


def test_a_long_curve_keeps_its_first_and_last_epoch() -> None:
    (points,) = curves([[{"train/loss": float(epoch)} for epoch in range(1, 1001)]]).values()
    epochs = [point.epoch for point in points]
    assert len(epochs) == MOST_POINTS
    assert (epochs[0], epochs[-1]) == (1, 1000)
    assert epochs == sorted(set(epochs))


def test_a_variant_without_histories_has_no_curves() -> None:
    assert curves([]) == {}
