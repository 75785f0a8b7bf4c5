"""Latency against a call that is its own clock."""

import pytest

import kdmodels.timing
from kdmodels.timing import FEWEST, MOST, latency


class Clock:
    """By itself a call takes 2 ms, and every tenth 30 ms."""

    calls, now = 0, 0.0

    def __call__(self) -> None:
        self.calls += 1
        self.now += 0.03 if self.calls % 10 == 0 else 0.002

    def perf_counter(self) -> float:
        return self.now


def test_the_median_is_of_the_usual_call_and_the_95th_percentile_of_the_slow_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(kdmodels.timing, "time", clock)
    assert latency(clock) == pytest.approx((2, 30))
    assert FEWEST < clock.calls < MOST
