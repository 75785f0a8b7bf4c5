"""The share of the gap between the control and the teacher that a student closes."""

from collections.abc import Iterable
from dataclasses import dataclass

from kdmodels.report.leaderboard import LeaderboardRow

SMALLEST_GAP = 0.001  # difference of accuracies from 0 to 1; shares of a smaller gap could be large by chance


@dataclass(frozen=True)
class Gap:
    """The share of the gap between a student's control and the teacher that the student closes.

    The share is 0 if the student is as accurate as its control, and 1 if the student is as accurate as the teacher. The
    share can be below 0 or above 1.

    Attributes:
        share: The share, computed from mean accuracies over seeds.
        low, high: The ends of the share's 95 % interval. They are the ends of the interval of the difference between
            student and control, divided by the width of the gap. The width is taken as exact. `None` if the difference
            has no interval.
    """

    share: float
    low: float | None
    high: float | None


def gaps_closed(rows: Iterable[LeaderboardRow], teacher: float | None) -> dict[str, Gap]:
    """Return the share of its gap that each student closes, by variant.

    A student is left out if its control has not finished, or if the teacher is better than the control by less than
    `SMALLEST_GAP`.

    Args:
        teacher: The teacher's validation accuracy, from 0 to 1. `None` if unknown.
    """
    gaps: dict[str, Gap] = {}
    for row in rows:
        difference, accuracy = row.evidence.control_difference, row.accuracy
        if teacher is None or difference is None or accuracy is None:
            continue
        width = teacher - (accuracy - difference)
        if width >= SMALLEST_GAP:
            low, high = row.evidence.control_difference_low, row.evidence.control_difference_high
            gaps[row.student.variant] = Gap(
                difference / width, None if low is None else low / width, None if high is None else high / width
            )
    return gaps
