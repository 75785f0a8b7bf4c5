"""Which comparison and which of its students a RUN means for `kd promote`."""

import pytest

from kdmodels.errors import UserError
from tasks import tracking
from tasks.promotion_candidates import find_candidate, recorded_leaderboard
from tests.conftest import Recorded


def run_id_of(comparison: str, name: str) -> str:
    (run_id,) = [run.run_id for run in tracking.children(comparison) if run.name == name]
    return run_id


def test_a_comparison_means_its_winner(recorded: Recorded) -> None:
    comparison, variant = find_candidate(recorded.first)
    assert (comparison.run_id, variant) == (recorded.first, tracking.get(recorded.first).tags["kd.winner"])


def test_without_a_run_the_latest_comparison_with_a_leaderboard_is_meant(recorded: Recorded) -> None:
    assert find_candidate(None)[0].run_id == recorded.other


def test_a_student_means_the_newest_comparison_that_lists_the_student(recorded: Recorded) -> None:
    """The second comparison reused the control of the first."""
    comparison, variant = find_candidate(run_id_of(recorded.first, "hard-labels"))
    assert (comparison.run_id, variant) == (recorded.again, "hard-labels")


def test_the_leaderboard_has_the_chosen_winner(recorded: Recorded) -> None:
    leaderboard = recorded_leaderboard(tracking.get(recorded.first), "hard-labels")
    assert leaderboard.winner == "hard-labels"
    assert [student.variant for student in leaderboard.students] == ["hard-labels", "kd"]
    assert leaderboard.teacher_run_id == run_id_of(recorded.first, "teacher")


def test_a_run_that_cannot_be_promoted_is_a_clear_error(recorded: Recorded) -> None:
    for word, message in (
        (run_id_of(recorded.first, "teacher"), r"run teacher is a teacher\. Allowed: a comparison or a student\."),
        (run_id_of(recorded.other, "broken"), r"run broken is FAILED\. Allowed: a finished student\."),
        (recorded.unfinished, r"run small \(RUNNING\) has no leaderboard"),
        ("nothing", "run 'nothing' is not in the tracking store"),
    ):
        with pytest.raises(UserError, match=message):
            find_candidate(word)
