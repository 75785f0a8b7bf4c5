"""The contents of a report, read from the store of a real comparison."""

import json

import pytest

from kdmodels.errors import UserError
from tasks import tracking
from tasks.report_contents import find_comparison, read_contents
from tasks.results import ROWS
from tasks.tracking.tags import Tag
from tests.conftest import Recorded


def test_a_report_is_found_by_its_comparison_or_a_student(recorded: Recorded) -> None:
    student = next(child for child in tracking.children(recorded.first) if child.kind == "student")
    assert find_comparison(recorded.first).run_id == recorded.first
    assert find_comparison(student.run_id).run_id == recorded.first
    assert find_comparison(None).run_id == recorded.other


def test_a_comparison_without_leaderboard_has_no_report(recorded: Recorded) -> None:
    with pytest.raises(UserError, match="has no leaderboard, so it has no report"):
        find_comparison(recorded.unfinished)


def test_the_contents_are_those_of_the_store(recorded: Recorded) -> None:
    run = tracking.get(recorded.first)
    contents = read_contents(run)
    rows = {row["variant"]: row for row in json.loads(tracking.artifact(recorded.first, ROWS).read_text())}
    assert {row.student.variant: row.accuracy for row in contents.rows} == {
        name: pytest.approx(row["metrics"]["val/accuracy"]) for name, row in rows.items()
    }
    assert contents.winner == run.tags[Tag.WINNER] == contents.rows[0].student.variant
    assert contents.objectives["hard-labels"] == "1 hard_labels"
    assert contents.formulas["soft_targets"].endswith("Hinton, Vinyals, Dean 2015")
    assert contents.teacher is not None
    teacher = tracking.get(run.tags[Tag.TEACHER_RUN])
    assert contents.teacher.accuracy == teacher.metrics["val/accuracy"]
    assert contents.teacher.costs.parameters == teacher.metrics["size/parameters"]
    assert contents.verdict is not None
    assert contents.verdict.reason == run.tags[Tag.VERDICT]


def test_the_curves_end_at_the_recorded_accuracies(recorded: Recorded) -> None:
    contents = read_contents(tracking.get(recorded.first))
    for row in contents.finished:
        last = contents.curves[row.student.variant]["val/accuracy"][-1]
        assert last.epoch == 4
        assert last.mean == pytest.approx(row.accuracy, abs=1e-4)
        assert (last.low, last.high) == pytest.approx(
            (min(row.student.per_seed["val/accuracy"]), max(row.student.per_seed["val/accuracy"])), abs=1e-4
        )


def test_runs_data_and_experiment_are_those_of_the_store(recorded: Recorded) -> None:
    contents = read_contents(tracking.get(recorded.again))
    assert [(run.name, run.action) for run in contents.runs] == [
        ("teacher", "reuse"),
        ("hard-labels", "reuse"),
        ("kd", "train"),
    ]
    assert all(run.effort.seconds for run in contents.runs)
    measured = [child for child in tracking.children(recorded.again) if child.tags.get(Tag.VARIANT) == "kd"]
    assert contents.runs[2].effort.memory_mb == measured[0].metrics["memory_mb/training"]
    assert contents.stages["students"].memory_mb == tracking.get(recorded.again).metrics["memory_mb/students"]
    assert contents.data is not None
    assert contents.data.source == "digits"
    splits = json.loads(tracking.artifact(recorded.again, "splits.json").read_text())
    assert contents.data.examples == {"train": len(splits["train"]), "validation": len(splits["validation"])}
    assert sorted(contents.data.classes) == list("0123456789")
    digest = next(child.params["data.digest"] for child in tracking.children(recorded.again) if child.kind == "student")
    assert contents.data.digests["digest of the data"] == digest
    assert contents.spec.startswith("# comparison small")
    assert set(contents.versions) == {"kdflow", "torch", "MLflow", "Prefect"}


def test_no_number_of_the_test_split_is_among_the_students(recorded: Recorded) -> None:
    names = {name for row in read_contents(tracking.get(recorded.first)).rows for name in row.student.metrics}
    assert not [name for name in names if name.startswith("test")]
