"""Addresses in the MLflow UI, of a store on this machine and of an MLflow server."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import mlflow
import pytest

from tasks import tracking

TRAINING = "workflowType=machine_learning"


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    return tracking.configure()


def test_a_run_of_a_local_store_has_an_address_while_a_ui_serves_the_store(store: str) -> None:
    run_id = tracking.start("digits", "digits", "comparison")
    assert (tracking.run_url(run_id), tracking.version_url("m", 1)) == (None, None)
    with tracking.ui_announced(store, "http://127.0.0.1:1234"):
        assert tracking.run_url(run_id) == f"http://127.0.0.1:1234/#/experiments/1/runs/{run_id}?{TRAINING}"
        assert tracking.version_url("my model", 3) == "http://127.0.0.1:1234/#/models/my%20model/versions/3"
    assert tracking.run_url(run_id) is None


def test_a_link_inside_the_ui_needs_no_address(store: str) -> None:
    run_id = tracking.start("digits", "digits", "comparison")
    run = f"#/experiments/1/runs/{run_id}"
    assert tracking.run_link(run_id) == f"{run}?{TRAINING}"
    assert tracking.artifact_link(run_id, "a b.html") == f"{run}/artifacts/a%20b.html?{TRAINING}"
    assert tracking.saved_view_link(run_id) == f"#/experiments/1/runs?viewStateShareKey={run_id}&{TRAINING}"


def test_the_latest_link_leads_to_the_experiment_of_the_latest_run(store: str) -> None:
    assert tracking.latest_link() == f"#/?{TRAINING}"
    for experiment in ("digits", "mnist"):
        tracking.start(experiment, "kd", "student")
    assert tracking.latest_link() == f"#/experiments/2/runs?{TRAINING}"


def test_a_link_to_compare_runs_names_the_experiment_of_each_run(store: str) -> None:
    runs = [tracking.start(experiment, "kd", "student") for experiment in ("digits", "mnist", "digits")]
    page, _, query = tracking.compare_link(runs).partition("?")
    parameters = parse_qs(query)
    assert page == "#/compare-runs"
    assert json.loads(parameters["runs"][0]) == runs
    assert json.loads(parameters["experiments"][0]) == ["1", "2"]
    assert parameters["workflowType"] == ["machine_learning"]


def test_an_address_on_a_server_holds_no_secret(store: str) -> None:
    mlflow.set_tracking_uri("https://ann:secret@ml.example:5000/mlflow/?token=abc#def")
    try:
        assert tracking.version_url("m", 1) == "https://ml.example:5000/mlflow/#/models/m/versions/1"
    finally:
        mlflow.set_tracking_uri(store)


@pytest.mark.parametrize("store_uri", ["http://mlflow:5000", "local"])
def test_the_address_for_people_takes_precedence(store: str, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_MLFLOW_UI_URL", "https://ann:secret@ml.example/mlflow/")
    mlflow.set_tracking_uri(store if store_uri == "local" else store_uri)
    try:
        assert tracking.version_url("m", 1) == "https://ml.example/mlflow/#/models/m/versions/1"
    finally:
        mlflow.set_tracking_uri(store)
