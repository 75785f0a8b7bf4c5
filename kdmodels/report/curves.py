"""Learning curves: the mean, the lowest and the highest value of a metric over a variant's seeds in each epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdmodels.report.numbers import rounded

MOST_POINTS = 100  # maximum number of points of a curve; more points would make the page larger but no clearer

History = Sequence[Mapping[str, float]]
"""The metrics of one seed in each epoch. Epochs without validation have no validation metrics."""


@dataclass(frozen=True)
class Point:
    """The values of a metric in one epoch: the mean, the lowest and the highest value over the seeds."""

    epoch: int
    mean: float
    low: float
    high: float


def curves(histories: Sequence[History]) -> dict[str, list[Point]]:
    """Return the curve of each metric of a variant, by the name of the metric.

    The point of an epoch includes only the seeds with a finite value in this epoch, because seeds can stop early or
    diverge. If a curve has more than `MOST_POINTS` epochs, evenly spaced epochs are kept, among them the first and the
    last.

    Args:
        histories: One history per seed.

    >>> curves([[{"val/accuracy": 0.5}, {"val/accuracy": 0.75}], [{"val/accuracy": 0.25}]])["val/accuracy"]
    [Point(epoch=1, mean=0.375, low=0.25, high=0.5), Point(epoch=2, mean=0.75, low=0.75, high=0.75)]
    """
    values: dict[str, dict[int, list[float]]] = {}
    for history in histories:
        for epoch, figures in enumerate(history, 1):
            for metric, value in figures.items():
                if math.isfinite(value):
                    values.setdefault(metric, {}).setdefault(epoch, []).append(value)
    return {
        metric: _thinned([_point(epoch, of_seeds) for epoch, of_seeds in sorted(by_epoch.items())])
        for metric, by_epoch in values.items()
    }


def _point(epoch: int, values: Sequence[float]) -> Point:
    return Point(epoch, rounded(sum(values) / len(values)), rounded(min(values)), rounded(max(values)))


def _thinned(points: list[Point]) -> list[Point]:
    if len(points) <= MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(number * last / (MOST_POINTS - 1))] for number in range(MOST_POINTS)]
