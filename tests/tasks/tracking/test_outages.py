"""Outages of a disk, a server or the database, and the status that a run gets."""

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import HTTPError

from kdmodels.errors import UnavailableError, UserError
from tasks import tracking
from tasks.tracking import mlflow_internals


def test_a_run_that_a_full_disk_stops_is_killed_and_records_the_reason(store: Path) -> None:
    """Linux's /dev/full is always full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    id_ = tracking.start("digits", "kd", "student")
    with pytest.raises(OSError, match="No space left"), tracking.recording(id_), open("/dev/full", "wb", 0) as full:
        full.write(b"x")
    run = tracking.get(id_)
    assert (run.status, run.tags["kd.error"]) == ("KILLED", "No space left on device")


def test_a_locked_database_is_an_outage_and_the_run_stays_running(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_internals, "LOCKED_MS", 10)
    id_ = tracking.start("digits", "kd", "student")
    with closing(sqlite3.connect(store / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MlflowException) as caught, tracking.recording(id_):
            tracking.log_metrics(id_, [("epoch", 1.0, 1)])
    assert str(tracking.outage(caught.value)) == (
        f"tracking store 'sqlite:///{store}/mlflow.db' can't be used: database is locked"
    )
    assert tracking.is_mute(caught.value)
    run = tracking.get(id_)
    assert (run.status, run.tags.get("kd.error")) == ("RUNNING", None)
    assert [run.run_id for run in tracking.end_abandoned()] == [id_]


def test_a_server_that_does_not_answer_is_an_outage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:  # bound, and not listening
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(MlflowException) as caught:
            MlflowClient(url).search_experiments()
    assert str(tracking.outage(caught.value)) == f"no answer from the MLflow server at '{url}'"


@pytest.mark.parametrize(
    "error", [ValueError("x"), UserError("x"), FileNotFoundError(2, "x"), MlflowException("x"), None]
)
def test_other_errors_are_no_outages(error: object) -> None:
    assert tracking.outage(error) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "API request to http://ml:5000/api/2.0/mlflow-artifacts/artifacts/1/a.json failed with exception "
            "HTTPConnectionPool: Max retries exceeded (Caused by ResponseError('too many 500 error responses'))",
            "the MLflow server at 'http://ml:5000' can't read or write files (too many 500 error responses); "
            "its log says why",
        ),
        (
            "API request to endpoint /api/2.0/mlflow/runs/get failed with error code 401 != 200. Response body: 'no'",
            "the MLflow server at 'http://ml:5000' refused us (HTTP 401); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD",
        ),
    ],
)
def test_a_server_that_refuses_a_login_or_files_is_an_outage(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ml:5000")
    assert str(tracking.outage(MlflowException(text))) == message
    assert tracking.is_mute(MlflowException(text))


def test_a_server_whose_own_store_of_files_refuses_is_an_outage_that_the_run_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ml:5000")
    error = HTTPError("500 Server Error: Internal for url: http://ml:5000/api/2.0/mlflow-artifacts/artifacts/1/a.json")
    message = "the MLflow server at 'http://ml:5000' can't read or write files (500 Server Error); its log says why"
    assert str(tracking.outage(error)) == message
    assert not tracking.is_mute(error)


def test_a_one_line_error_is_kept() -> None:
    error = UnavailableError("the store is gone")
    assert tracking.outage(error) is error
    assert not tracking.is_mute(error)
