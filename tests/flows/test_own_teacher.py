"""A teacher with augmentation, normalisation, input size and data of its own, through the whole flow."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.distill import Outcome, distill
from kdmodels.data import load_dataset
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Data, Experiment
from kdmodels.networks import load_network
from tasks import tracking
from tests.conftest import SMALL

pytestmark = pytest.mark.fault

DATA = SMALL["data"] | {"subset": 200}
OWN: dict[str, Any] = {
    "network": {"mlp": [32]},
    "epochs": 2,
    "augment": [{"jitter": 1}],
    "normalise": {"mean": [0.25], "std": [0.5]},
    "size": 12,
    "data": {"subset": 600},
}
EXPERIMENT = SMALL | {"name": "own", "data": DATA, "teacher": OWN, "variants": ["hard-labels", "kd", "hint"]}


def run(**changes: Any) -> Outcome:
    return distill(Experiment.model_validate(EXPERIMENT | changes))


@pytest.fixture(scope="module")
def first(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("own")))
        yield run()


def test_every_student_learns_from_the_teacher(first: Outcome) -> None:
    assert [student.status for student in first.students] == ["FINISHED"] * 3
    assert {"cost/flops", "latency/p50_ms"} <= first.teacher.metrics.keys()
    assert first.verdict.promoted


def test_the_run_of_the_teacher_names_its_own_fields(first: Outcome) -> None:
    params = tracking.get(first.teacher.run_id).params
    assert (params["data.augment.0.jitter"], params["data.subset"], params["size"]) == ("1", "600", "[12, 12]")
    (kd,) = [student for student in first.students if student.variant == "kd"]
    own = tracking.get(str(kd.run_id)).params
    assert (own["data.augment"], own["data.subset"]) == ("[]", "200")
    assert "augment_seed" not in own
    assert own["data.digest"] != params["data.digest"]


def test_its_accuracy_and_knowledge_are_of_the_students_images(first: Outcome) -> None:
    dataset = load_dataset(Data.model_validate(DATA))
    network, description = load_network(tracking.artifact(first.teacher.run_id, "network"))
    assert (description.mean, description.size, description.input_shape) == ([0.25], (12, 12), (1, 8, 8))
    logits = predict(network, dataset.validation)
    right = (logits.argmax(dim=1) == dataset.validation.labels).double().mean().item()
    assert first.teacher.metrics["val/accuracy"] == pytest.approx(right)
    (folder,) = tracking.artifact(first.teacher.run_id, "knowledge").iterdir()
    stored = np.load(folder / "train-view-0" / "logits.npy")
    np.testing.assert_allclose(stored, predict(network, dataset.train).numpy(), rtol=1e-3, atol=1e-3)


def test_another_set_of_students_has_knowledge_of_its_own_from_the_same_teacher(first: Outcome) -> None:
    other = run(data=DATA | {"subset": 100, "validation": 0.4}, variants=["kd"], name="other students")
    assert other.teacher.run_id != first.teacher.run_id  # another validation split
    jittered = run(student=SMALL["student"] | {"augment": [{"jitter": 1}]}, variants=["kd"])
    assert jittered.teacher.run_id == first.teacher.run_id
    stored = json.loads(tracking.get(first.teacher.run_id).tags["kd.knowledge"])
    assert sorted((name.rpartition("/")[2], views) for name, views in stored.items()) == [
        ("logits", 1), ("logits", 3), ("middle", 1)]  # fmt: skip
    live = run(student=SMALL["student"] | {"augment": [{"jitter": 1}]}, variants=["kd"], knowledge={"views": 0})
    losses = [outcome.students[1].metrics["train/soft_targets"] for outcome in (jittered, live)]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)


def test_more_labels_for_the_teacher_help_the_students() -> None:
    labels = {"data": SMALL["data"] | {"labelled": 60, "transfer": {"unlabelled": "rest"}}, "name": "labels"}
    student = {"network": {"mlp": [16]}, "epochs": 15, "seeds": 1, "optimizer": {"adam": {"lr": 0.01}}}
    teacher = {"network": {"mlp": [64]}, "epochs": 15, "data": {"labelled": None}}
    outcome = run(**labels, student=student, teacher=teacher, variants=["kd"])
    accuracy = {student.variant: student.metrics["val/accuracy"] for student in outcome.students}
    assert outcome.teacher.metrics["val/accuracy"] > accuracy["kd"] > accuracy["hard-labels-equal-steps"]
