"""Latency, with a call that moves a fake clock."""

import pytest

import kdmodels.evaluation.timing
from kdmodels.evaluation.timing import FEWEST, MOST, latency


class Clock:
    """A clock on which a call takes 2 ms, and every tenth call 30 ms."""

    calls, now = 0, 0.0

    def __call__(self) -> None:
        self.calls += 1
        self.now += 0.03 if self.calls % 10 == 0 else 0.002

    def perf_counter(self) -> float:
        return self.now


def test_the_median_is_the_usual_time_and_the_95th_percentile_the_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(kdmodels.evaluation.timing, "time", clock)
    assert latency(clock) == pytest.approx((2, 30))
    assert FEWEST < clock.calls < MOST
