"""What is an outage, of a disk, a server or the database, and how a run ends by it."""

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine, text

from kdmodels.errors import UnavailableError, UserError
from tasks import tracking
from tasks.tracking import outages


def test_a_run_that_a_full_disk_stops_is_killed_and_says_why(store: Path) -> None:
    """Linux's /dev/full has no room for anything."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    id_ = tracking.start("digits", "kd", "student")
    with pytest.raises(OSError, match="No space left"), tracking.recording(id_), open("/dev/full", "wb", 0) as full:
        full.write(b"x")
    run = tracking.get(id_)
    assert (run.status, run.tags["kd.error"]) == ("KILLED", "No space left on device")


def test_a_database_that_is_locked_is_an_outage_of_which_the_ledger_is_not_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "LOCKED_MS", 10)
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


def test_sqlite_waits_for_a_lock_as_long_as_is_said_here(tmp_path: Path) -> None:
    with create_engine(f"sqlite:///{tmp_path}/x.db").connect() as connection:
        connection.execute(text("PRAGMA busy_timeout = 20000;"))
        waited = connection.exec_driver_sql("SELECT timeout FROM pragma_busy_timeout").scalar()
    assert waited == outages.LOCKED_MS


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
def test_all_else_is_none(error: object) -> None:
    assert tracking.outage(error) is None


def test_what_is_said_in_one_line_already_stays_so() -> None:
    error = UnavailableError("the store is gone")
    assert tracking.outage(error) is error
    assert not tracking.is_mute(error)
