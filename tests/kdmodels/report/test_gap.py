"""The share of the gap to the teacher, against numbers worked out by hand."""

import pytest

from kdmodels.report.gap import gaps_closed
from kdmodels.report.leaderboard import leaderboard
from tests.support.students import CONTROL, KD, student

ROWS = leaderboard([CONTROL, KD])


def test_the_share_is_0_for_the_control_and_1_for_the_teacher() -> None:
    gap = gaps_closed(ROWS, 0.98)["kd"]  # control 0.92, kd 0.95
    assert gap.share == pytest.approx(0.03 / 0.06)
    evidence = ROWS[0].evidence
    assert evidence.control_difference_low is not None
    assert gap.low == pytest.approx(evidence.control_difference_low / 0.06)


def test_a_student_can_fall_behind_its_control_and_overtake_the_teacher() -> None:
    worse = student("worse", [0.89, 0.90, 0.94])
    assert gaps_closed(leaderboard([CONTROL, worse]), 0.94)["worse"].share == pytest.approx(-0.5)
    assert gaps_closed(ROWS, 0.94)["kd"].share == pytest.approx(1.5)


@pytest.mark.parametrize("teacher", [None, 0.9, 0.92, 0.9205])
def test_there_is_no_share_without_a_better_teacher(teacher: float | None) -> None:
    assert gaps_closed(ROWS, teacher) == {}


def test_the_control_and_a_student_without_control_have_no_share() -> None:
    assert list(gaps_closed(ROWS, 0.98)) == ["kd"]
    assert gaps_closed(leaderboard([KD]), 0.98) == {}
