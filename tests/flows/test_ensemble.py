"""An ensemble of teachers, through the whole flow."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from flows.distill import Outcome, distill, plan_only
from kdmodels.data import load_dataset
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Data, Experiment
from kdmodels.networks import load_network
from kdmodels.report.predictions import Predictions
from tasks import tracking
from tasks.cleanup import leftovers
from tasks.results import PREDICTIONS
from tests.conftest import SMALL

pytestmark = pytest.mark.fault

ONE: dict[str, Any] = {"network": {"mlp": [16]}, "epochs": 2}
EXPERIMENT = SMALL | {
    "name": "many",
    "teacher": [ONE, ONE, {"network": {"mlp": [32]}, "epochs": 3}],
    "student": {"network": {"mlp": [8]}, "epochs": 2, "seeds": 2},
    "variants": ["hard-labels", "kd", "logit-regression", "kd-standardised", "adversarial"],
}


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate(EXPERIMENT | changes)


@pytest.fixture(scope="module")
def first(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("ensemble")))
        yield distill(experiment())


def members(outcome: Outcome) -> list[tracking.Run]:
    return [tracking.get(run_id) for run_id in json.loads(tracking.get(outcome.teacher.run_id).tags["kd.members"])]


def test_each_member_has_a_run_and_a_network_of_its_own(first: Outcome) -> None:
    teachers = members(first)
    assert [(run.name, run.kind, run.status) for run in teachers] == [
        (f"teacher-{number}", "teacher", "FINISHED") for number in (1, 2, 3)
    ]
    assert teachers[0].params | {"seeds": "[1]"} == teachers[1].params
    assert len({run.metrics["val/loss"] for run in teachers}) == 3
    ensemble = tracking.get(first.teacher.run_id)
    assert ensemble.metrics["size/parameters"] == sum(run.metrics["size/parameters"] for run in teachers)
    assert {"cost/flops", "latency/p50_ms", "val/macro_f1"} <= first.teacher.metrics.keys()
    assert [row.status for row in first.students] == ["FINISHED"] * 5
    assert leftovers.kept() == []


def test_accuracy_is_of_the_mean_distribution_and_knowledge_holds_all_members_logits(first: Outcome) -> None:
    dataset = load_dataset(Data.model_validate(EXPERIMENT["data"]), None)
    networks = [load_network(tracking.artifact(run.run_id, "network"))[0] for run in members(first)]
    logits = np.stack([predict(network, dataset.validation).numpy() for network in networks], axis=1)
    mean = logsumexp(log_softmax(logits.astype(np.float64), axis=2), axis=1)
    accuracy = (mean.argmax(axis=1) == dataset.validation.labels.numpy()).mean()
    assert first.teacher.metrics["val/accuracy"] == pytest.approx(accuracy)
    stored = np.load(tracking.artifact(first.teacher.run_id, "knowledge") / "validation" / "logits.npy")
    np.testing.assert_allclose(stored, logits, rtol=1e-3, atol=1e-3)


def test_the_report_shows_the_predictions_of_the_ensemble(first: Outcome) -> None:
    predictions = Predictions.model_validate(tracking.read_json(first.parent_run_id, PREDICTIONS))
    assert predictions.networks[-1].role == "teacher"
    assert predictions.networks[-1].accuracy == pytest.approx(first.teacher.metrics["val/accuracy"])


def test_an_ensemble_is_reused_and_a_live_ensemble_gives_the_same_outputs(first: Outcome) -> None:
    live = distill(experiment(knowledge={"views": 0}, variants=["hard-labels", "kd"]))
    assert live.teacher.run_id == first.teacher.run_id
    assert [row.reused for row in live.students] == [True, False]
    (stored,) = [row for row in first.students if row.variant == "kd"]
    for name in ("train/soft_targets", "val/loss"):
        assert live.students[1].metrics[name] == pytest.approx(stored.metrics[name], rel=1e-3)


def test_another_member_makes_another_ensemble_and_known_members_are_reused(first: Outcome) -> None:
    plan = plan_only(experiment(teacher=[ONE, ONE]))
    assert [(step.name, step.action) for step in plan.steps[:3]] == [
        ("teacher-1", "reuse"), ("teacher-2", "reuse"), ("teacher", "train")]  # fmt: skip
    assert plan.teacher.reason == "its members changed"
    alone = plan_only(experiment(teacher=ONE))
    assert (alone.members, alone.teacher.action, alone.teacher.source) == ([], "reuse", members(first)[0].run_id)
