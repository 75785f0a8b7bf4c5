"""Experiments with metrics beside the accuracy, from the file to the verdict."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import f1_score

from kd.exit_codes import DONE, REFUSED
from kdmodels.experiment import Experiment
from tasks import tracking
from tests.conftest import SMALL, Here

pytestmark = pytest.mark.usefixtures("prefect_server")
MINE = """\
def distance(logits, labels):
    return (logits.argmax(1) - labels).abs().float().mean().item()
"""
COST = "e2e_metrics:distance"
EXPERIMENT = SMALL | {
    "name": "metrics",
    "teacher": {"network": {"mlp": [16]}, "epochs": 2},
    "metrics": ["macro_f1", "recall_7", {COST: "lower"}],
    "rank_by": COST,
    "promote": {"require": {"macro_f1": ">= 0.999", COST: "<= 1000"}},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e2e_metrics.py").write_text(MINE)
    file = tmp_path / "metrics.yaml"
    file.write_text(json.dumps(EXPERIMENT))
    return file


def test_metrics_rank_students_bound_the_promotion_and_never_retrain(file: Path, kd_here: Here) -> None:
    code, out, error = kd_here("run", str(file), "--quiet", "--json")
    assert code == DONE, error
    outcome = json.loads(out)
    scores = {student["variant"]: student["scores"] for student in outcome["students"]}
    costs = {name: np.mean(values[COST]) for name, values in scores.items()}
    winner = min(costs, key=lambda name: costs[name])
    verdict, evidence = outcome["verdict"], outcome["verdict"]["evidence"]
    assert verdict["winner"] == winner
    assert "macro_f1 on test is" in verdict["reason"]
    assert [rule["name"] for rule in evidence["budgets"]] == ["macro_f1", COST]
    # The test metrics are those of the stored predictions.
    run = tracking.get(next(each["run_id"] for each in outcome["students"] if each["variant"] == winner))
    stored = load_file(tracking.artifact(run.run_id, "test_outcomes.safetensors"))
    expected = f1_score(stored["labels"], stored["predicted"], average="macro")
    assert evidence["challenger"]["metrics"]["macro_f1"] == pytest.approx(expected)
    assert run.metrics["test/macro_f1"] == pytest.approx(expected)
    assert run.metrics["metric/e2e_metrics.distance"] == pytest.approx(costs[winner])
    # A new metric is measured from the stored networks. No student is trained again.
    file.write_text(json.dumps(EXPERIMENT | {"metrics": [*EXPERIMENT["metrics"], "top_3"], "rank_by": "top_3"}))
    code, out, error = kd_here("run", str(file), "--quiet", "--json")
    assert code == DONE, error
    again = json.loads(out)
    assert all(student["reused"] for student in again["students"])
    assert all(len(student["scores"]["top_3"]) == 2 for student in again["students"])
    assert {each["variant"]: each["scores"][COST] for each in again["students"]} == {
        name: values[COST] for name, values in scores.items()
    }
    _, table, _ = kd_here("compare", "--markdown")
    assert {"macro_f1", COST, "top_3"} <= {cell.strip() for cell in table.splitlines()[0].split("|")}
    _, text, _ = kd_here("show", run.run_id)
    assert "metric/top_3" in text


def test_stored_metrics_of_the_user_run_only_if_the_command_names_their_module(file: Path, kd_here: Here) -> None:
    assert kd_here("run", str(file), "--quiet", "--json")[0] == DONE
    sys.modules.pop("e2e_metrics")
    code, _, error = kd_here("promote", "--dry-run")
    assert code not in (DONE, REFUSED)
    assert "metrics: the store names the code of e2e_metrics, which this command does not" in error
    assert "e2e_metrics" not in sys.modules
    assert kd_here("promote", "--dry-run", "--allow-code", "e2e_metrics")[0] == REFUSED


def test_the_normal_form_survives_the_store() -> None:
    experiment = Experiment.model_validate(EXPERIMENT)
    assert Experiment.model_validate(json.loads(experiment.model_dump_json())) == experiment
