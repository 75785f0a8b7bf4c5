"""Few labels: distilled students also learn from images without labels, in every way of training."""

from typing import Any

import pytest

from flows.distill import Outcome, distill, plan_only
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.references import Options
from tests.conftest import SMALL

pytestmark = pytest.mark.usefixtures("module_store")
LABELLED = {"source": "digits", "subset": 400, "labelled": 40}
REST = {"transfer": {"unlabelled": "rest"}}
EXPERIMENT = SMALL | {
    "name": "few",
    "data": LABELLED,
    "teacher": {"network": {"mlp": [16]}, "epochs": 4},
    "student": {"network": {"mlp": [8]}, "epochs": 4, "seeds": 2},
}


def experiment(data: dict[str, Any], **changes: Any) -> Experiment:
    return Experiment.model_validate(EXPERIMENT | {"data": LABELLED | data} | changes)


def replicas(outcome: Outcome, variant: str) -> list[dict[str, Any]]:
    (student,) = (student for student in outcome.students if student.variant == variant)
    assert student.status == "FINISHED"
    table: list[dict[str, Any]] = tracking.read_json(str(student.run_id), "replicas/replicas.json")
    return table


@pytest.mark.fault
def test_unlabelled_images_and_classes_change_only_distilled_students() -> None:
    alone = distill(experiment({}))
    for data in (REST, {"transfer": {"classes": [7, 8]}}):
        outcome = distill(experiment(data))
        assert outcome.teacher.run_id == alone.teacher.run_id  # its knowledge is stored for each set of images
        assert [student.reused for student in outcome.students if student.variant == "hard-labels"] == [True]
        assert replicas(outcome, "kd") != replicas(alone, "kd")
    notes = tracking.artifact(outcome.parent_run_id, "notes.txt").read_text()
    assert "40 of 360 training examples keep their labels" in notes
    splits = tracking.read_json(distill(experiment(REST)).parent_run_id, "splits.json")
    assert [len(splits[name]) for name in ("train", "validation", "rest")] == [40, 40, 320]
    again = distill(experiment(REST), Options(fresh=True))
    assert replicas(again, "hard-labels") == replicas(alone, "hard-labels")


@pytest.mark.fault
@pytest.mark.parametrize(("data", "changes"), [
    ({"augment": [{"jitter": 1}]}, {"knowledge": {"views": 2}}),
    ({"augment": [{"cutmix": 1.0}]}, {"knowledge": {"views": 0}, "variants": ["kd", "crd"]}),
    ({"folds": 2}, {"student": EXPERIMENT["student"] | {"balance": "sampling"}}),
    ({"validate_every": 3}, {"student": EXPERIMENT["student"] | {"balance": "weights", "select": "best-validation"}}),
], ids=["stored views", "live teacher", "folds", "weights"])  # fmt: skip
def test_unlabelled_images_are_used_in_every_way_of_training(data: dict[str, Any], changes: dict[str, Any]) -> None:
    outcome = distill(experiment(REST | data, **changes))
    assert {student.status for student in outcome.students} == {"FINISHED"}


def test_only_validated_epochs_have_validation_metrics() -> None:
    outcome = distill(experiment({"validate_every": 3}))
    for replica in replicas(outcome, "kd"):
        assert ["val/accuracy" in figures for figures in replica["history"]] == [False, False, True, True]
        assert all("train/loss" in figures for figures in replica["history"])
    plan = plan_only(experiment({"validate_every": 2}))
    assert all(step.reason.startswith("data.validate_every: 3 -> 2") for step in plan.steps)


def test_a_teacher_may_have_more_labels() -> None:
    alone = distill(experiment(REST))
    teacher = EXPERIMENT["teacher"] | {"data": {"labelled": 300}}
    outcome = distill(experiment(REST, teacher=teacher))
    assert replicas(outcome, "hard-labels") == replicas(alone, "hard-labels")
    assert replicas(outcome, "kd") != replicas(alone, "kd")


def test_the_plan_names_the_changed_number_of_labels() -> None:
    distill(experiment({}))
    plan = plan_only(experiment({"labelled": 50}))
    assert plan.teacher.reason == "the data changed, data.labelled: 40 -> 50"
