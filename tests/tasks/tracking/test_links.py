"""Addresses in the MLflow UI, of a store on this machine and of an MLflow server."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from kdmodels.files.folders import cache_folder
from tasks import tracking


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    return tracking.configure()


def test_a_run_of_a_local_store_has_an_address_while_a_ui_serves_the_store(store: str) -> None:
    run_id = tracking.start("digits", "digits", "comparison")
    assert (tracking.run_url(run_id), tracking.version_url("m", 1)) == (None, None)
    with tracking.ui_announced(store, "http://127.0.0.1:1234"):
        assert tracking.run_url(run_id) == f"http://127.0.0.1:1234/#/experiments/1/runs/{run_id}"
        assert tracking.version_url("my model", 3) == "http://127.0.0.1:1234/#/models/my%20model/versions/3"
    assert tracking.run_url(run_id) is None


def test_the_announcement_of_a_killed_ui_is_ignored(store: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with tracking.ui_announced(store, "http://127.0.0.1:1234"):
        (file,) = (cache_folder() / "servers").glob("mlflow-ui-*.json")
        file.write_text(json.dumps({"pid": ended.pid, "address": "http://127.0.0.1:1234"}))
        assert tracking.version_url("m", 1) is None


def test_an_address_on_a_server_holds_no_secret(store: str) -> None:
    mlflow.set_tracking_uri("https://ann:secret@ml.example:5000/mlflow/?token=abc#def")
    try:
        assert tracking.version_url("m", 1) == "https://ml.example:5000/mlflow/#/models/m/versions/1"
    finally:
        mlflow.set_tracking_uri(store)
