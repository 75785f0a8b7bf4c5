"""Two comparisons and two versions of models side by side, from a store with real comparisons."""

from pathlib import Path

import numpy as np
import pytest

from kdmodels.errors import UserError
from kdmodels.evaluation.correctness import Correctness
from kdmodels.files.folders import private_folder
from tasks import tracking
from tasks.references import StudentReference
from tasks.results import CORRECTNESS, ROWS, write_correctness
from tasks.side_by_side import SideBySide, StudentPair, side_by_side
from tasks.tracking.tags import Tag
from tests.conftest import Recorded
from tests.support.students import student


def compared(a: str, b: str) -> SideBySide:
    pair = side_by_side(a, b)
    assert pair is not None
    return pair


def accuracies(comparison: str) -> dict[str, float]:
    rows = [StudentReference.model_validate(row) for row in tracking.read_json(comparison, ROWS)]
    return {row.variant: row.accuracy for row in rows if row.finished}


def test_comparisons_with_the_same_validation_images_are_compared_by_pairs(recorded: Recorded) -> None:
    pair = compared(recorded.first, recorded.again)
    assert pair.comparable
    assert pair.note.startswith("Both have the same ")
    first, again = accuracies(recorded.first), accuracies(recorded.again)
    pairs = {each.variant: each for each in pair.students}
    assert {*pairs} >= {"hard-labels", "kd"}
    assert len(pairs) == len(pair.students)
    assert pairs["hard-labels"].same_run
    assert pairs["hard-labels"].difference is None
    assert pairs["kd"].difference == pytest.approx(again["kd"] - first["kd"])
    assert pairs["kd"].low is not None
    assert pairs["kd"].low <= pairs["kd"].difference <= pairs["kd"].high
    assert pairs["kd"].p_examples is not None
    winners = [tracking.get(run).tags[Tag.WINNER] for run in (recorded.first, recorded.again)]
    assert [pair.a.student, pair.b.student] == winners
    assert (pair.students[0].a, pair.students[0].b) == (first[winners[0]], again[winners[1]])


def test_only_the_fields_that_differ_are_listed(recorded: Recorded) -> None:
    (difference,) = compared(recorded.first, recorded.again).differences
    assert difference.field == "variants.kd"
    assert '"temperature": 4.0' in str(difference.a)
    assert '"temperature": 2' in str(difference.b)
    assert compared(recorded.first, recorded.first).differences == []


def test_students_with_other_seeds_have_a_bootstrap_interval_and_no_test_over_seeds(recorded: Recorded) -> None:
    pair = compared(recorded.first, "other")
    assert pair.comparable
    (labels,) = [each for each in pair.students if each.variant == "hard-labels"]
    assert labels.difference is not None
    assert labels.low is not None
    assert labels.low <= labels.high
    assert labels.p_seeds is None
    assert labels.p_examples is not None
    fields = {each.field: (each.a, each.b) for each in pair.differences}
    assert fields["seed"] == (0, 5)
    assert fields["variants.kd"][1] is None


def record_comparison(folder: Path, name: str, split: str | None) -> str:
    """Record a comparison of one student, whose validation split has this digest. Return the id of its run."""
    run_id = tracking.start(name, name, "comparison")
    row = StudentReference.model_validate(student("kd", [0.75, 0.5], run_id=run_id).model_dump())
    tracking.log_json(run_id, ROWS, [row.model_dump(mode="json")])
    if split:
        outcomes = np.array([[True, True, True, False], [True, True, False, False]])
        write_correctness(folder / CORRECTNESS, {run_id: Correctness(split, outcomes)})
        tracking.log_folder(run_id, folder)
    return run_id


@pytest.mark.parametrize(
    ("split", "reason"), [("b", "their validation images differ"), (None, "it is not recorded which validation images")]
)
def test_comparisons_with_other_or_unknown_validation_images_are_not_compared(
    store: Path, tmp_path: Path, split: str | None, reason: str
) -> None:
    first = record_comparison(private_folder(tmp_path / "first"), "one", "a")
    second = record_comparison(private_folder(tmp_path / "second"), "two", split)
    pair = compared(first, second)
    assert not pair.comparable
    assert pair.note.startswith(f"They can't be compared fairly: {reason}")
    assert all((each.difference, each.p_seeds, each.p_examples) == (None, None, None) for each in pair.students)
    assert pair.result == "The difference of kd is not tested."


def test_versions_of_models_are_compared(recorded: Recorded) -> None:
    same = compared("small-student/1", "small-student@champion")
    assert same.a.model == "models:/small-student/1"
    assert same.result.startswith("Both have the same run of ")
    assert "%" in str(same.a.test_accuracy)
    pair = compared("small-student", "other-student")
    assert (len(pair.students), pair.b.model) == (1, "models:/other-student/1")
    assert "points for " in pair.result


def test_single_students_are_not_put_side_by_side(recorded: Recorded) -> None:
    run_id = tracking.get(recorded.first).tags[Tag.WINNER_RUN]
    assert side_by_side(run_id, run_id) is None
    assert side_by_side(recorded.first, "small-student") is None


def test_unknown_words_and_unfinished_comparisons_are_errors(recorded: Recorded) -> None:
    with pytest.raises(UserError, match="run 'smal' is not in the tracking store"):
        side_by_side("smal", recorded.first)
    with pytest.raises(UserError, match="has no leaderboard"):
        side_by_side(recorded.first, recorded.unfinished)


@pytest.mark.parametrize(
    ("p_seeds", "p_examples", "expected"),
    [(0.01, 0.01, True), (0.01, 0.2, False), (0.2, 0.01, False), (None, 0.01, True), (None, None, False)],
)
def test_a_difference_is_significant_if_every_test_says_so(
    p_seeds: float | None, p_examples: float | None, expected: bool
) -> None:
    pair = StudentPair(variant="kd", a=0.9, b=0.95, same_run=False, p_seeds=p_seeds, p_examples=p_examples)
    assert pair.is_significant is expected
