"""The stage of a comparison, from the lines of its runs and from its artifacts."""

import pytest

from kd.progress import Line
from kd.watching import stage


def lines(**statuses: str) -> list[Line]:
    """Return the line of the teacher and of each student, by name and status."""
    return [Line("teacher" if name == "teacher" else "student", name, status, 1) for name, status in statuses.items()]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"teacher": "waiting", "kd": "waiting"}, "teacher"),
        ({"teacher": "training", "labels": "training", "kd": "waiting"}, "teacher"),  # labels alone need no teacher
        ({"teacher": "finished", "kd": "waiting"}, "knowledge"),
        ({"teacher": "reused", "labels": "reused", "kd": "waiting"}, "knowledge"),
        ({"teacher": "reused", "kd": "tuning", "hint": "waiting"}, "students"),
        ({"teacher": "reused", "kd": "failed", "hint": "waiting"}, "students"),
        ({"teacher": "reused", "kd": "failed", "hint": "finished"}, "compare"),
    ],
)
def test_the_stage_follows_from_the_lines(statuses: dict[str, str], expected: str) -> None:
    assert stage(lines(**statuses), has_leaderboard=False, has_verdict=False) == expected


def test_the_last_stages_follow_from_the_artifacts() -> None:
    ended = lines(teacher="reused", kd="finished")
    assert stage(ended, has_leaderboard=True, has_verdict=False) == "promote"
    assert stage(ended, has_leaderboard=True, has_verdict=True) == "report"
