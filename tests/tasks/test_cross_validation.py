"""How the results of folds become one teacher and one student per variant."""

from typing import Any

import pytest

from kdmodels.experiment import Experiment
from tasks.cross_validation import Fold, FoldResult, join_folds, prepare_folds
from tasks.prepare_data import prepare_data
from tasks.references import DataReference, Options, Plan, PlannedRun, StudentReference, TeacherReference, Views

EXPERIMENT = Experiment.model_validate(
    {
        "name": "folded",
        "threads": 1,
        "data": {"source": "digits", "subset": 500, "folds": 3},
        "teacher": {"network": {"mlp": [16]}, "epochs": 2},
        "student": {"network": {"mlp": [8]}, "epochs": 4, "seeds": 2},
        "variants": ["hard-labels"],
    }
)


def fold(validation: int) -> Fold:
    data = DataReference(
        data=EXPERIMENT.data,
        folder=None,
        digest="",
        training_digest="",
        distillation_digest="",
        examples={"validation": validation},
        input_shape=(1, 8, 8),
        classes=[],
        mean=[],
        std=[],
    )
    run = PlannedRun(
        name="teacher", kind="teacher", action="train", reason="", key="", replicas="", params={}, seeds=[0]
    )
    plan = Plan(teacher=run, knowledge=Views(count=1, reason=""), students=[])
    return Fold(experiment=EXPERIMENT, data=data, plan=plan, parent="parent")


def result(number: int, accuracies: list[float], **changes: Any) -> FoldResult:
    values: dict[str, Any] = {
        "variant": "hard-labels",
        "run_id": f"student-{number}",
        "status": "FINISHED",
        "reused": True,
        "seeds": [0, 1],
        "metrics": {"val/accuracy": 0.0, "val/accuracy/std": 0.1, "size/parameters": 9.0},
        "per_seed": {"val/accuracy": accuracies},
        "parameters": 9,
    }
    teacher = TeacherReference(
        run_id=f"teacher-{number}", reused=not number, metrics={"val/accuracy": accuracies[0], "size/parameters": 99.0}
    )
    return teacher, [StudentReference(**values | changes)]


def test_every_example_counts_once() -> None:
    teacher, (student,) = join_folds([result(0, [0.5, 0.7]), result(1, [0.9, 0.7])], [fold(300), fold(100)])
    assert student.per_seed == {"val/accuracy": pytest.approx([0.6, 0.7])}
    assert student.metrics == {"val/accuracy": pytest.approx(0.65), "size/parameters": 9.0}
    assert (student.run_id, student.folds) == ("student-0", ["student-0", "student-1"])
    assert (teacher.run_id, teacher.reused) == ("teacher-0", False)
    assert teacher.metrics == {"val/accuracy": pytest.approx(0.6), "size/parameters": 99.0}


def test_a_student_that_failed_in_one_fold_failed() -> None:
    failed = result(1, [0.9, 0.7], status="FAILED", error="diverged")
    _, (student,) = join_folds([result(0, [0.5, 0.7]), failed], [fold(300), fold(100)])
    assert (student.status, student.error) == ("FAILED", "fold 2/2: diverged")


def test_without_cross_validation_nothing_is_joined() -> None:
    only = result(0, [0.5, 0.7])
    assert join_folds([only], [fold(300)]) is only


def test_each_fold_has_other_validation_examples_and_the_same_test_split() -> None:
    references = prepare_folds(EXPERIMENT, Options(), prepare_data.fn)
    assert [reference.fold for reference in references] == [0, 1, 2]
    assert len({reference.digest for reference in references}) == 3
