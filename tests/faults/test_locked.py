"""Another process locks the SQLite file, temporarily or permanently."""

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Workspace, single_error

WAIT = "touch reached; while [ ! -e held ]; do sleep 0.05; done"
TRAINING = ("tasks.training_runs:EpochLog.__call__", "50", WAIT)


def hold(workspace: Workspace) -> sqlite3.Connection:
    """Lock the store when training has reached the call, and return the connection."""
    deadline = time.monotonic() + 300
    while not (workspace.folder / "reached").exists():
        assert time.monotonic() < deadline, "no student was trained"
        time.sleep(0.05)
    connection = sqlite3.connect(workspace.folder / "mlruns" / "mlflow.db", timeout=60, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    (workspace.folder / "held").touch()
    return connection


@pytest.mark.fault
def test_a_temporarily_locked_store_is_waited_for(workspace: Workspace, expected: dict[str, Any]) -> None:
    process = workspace.start(*TRAINING, "run", "small.yaml", by=AT_CALL)
    with closing(hold(workspace)):
        time.sleep(25)  # MLflow itself waits 20 s
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_a_run_ended_by_a_permanently_locked_store_resumes_when_it_is_free(
    workspace: Workspace, expected: dict[str, Any]
) -> None:
    process = workspace.start(*TRAINING, "run", "small.yaml", by=AT_CALL)
    with closing(hold(workspace)):
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    file = workspace.folder / "mlruns" / "mlflow.db"
    assert single_error(stderr) == f"kd: error: tracking store 'sqlite:///{file}' can't be used: database is locked"
    done = workspace.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert workspace.outcome() == expected
