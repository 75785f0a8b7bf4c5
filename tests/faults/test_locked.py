"""Another process holds the SQLite file locked, for a while or for good."""

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Place, one_error

WAIT = "touch asked; while [ ! -e held ]; do sleep 0.05; done"
TRAINING = ("tasks.runs:EpochLog.__call__", "50", WAIT)


def hold(place: Place) -> sqlite3.Connection:
    """The lock, taken when the training has come so far."""
    deadline = time.monotonic() + 300
    while not (place.folder / "asked").exists():
        assert time.monotonic() < deadline, "no student was trained"
        time.sleep(0.05)
    connection = sqlite3.connect(place.folder / "mlruns" / "mlflow.db", timeout=60, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    (place.folder / "held").touch()
    return connection


@pytest.mark.fault
def test_a_store_that_is_locked_for_a_while_is_waited_for(place: Place, whole: dict[str, Any]) -> None:
    process = place.start(*TRAINING, "run", "small.yaml", by=AT_CALL)
    with closing(hold(place)):
        time.sleep(25)  # MLflow itself waits 20 s
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert place.outcome() == whole


@pytest.mark.fault
def test_a_store_that_stays_locked_ends_the_run_which_goes_on_when_it_is_free(
    place: Place, whole: dict[str, Any]
) -> None:
    process = place.start(*TRAINING, "run", "small.yaml", by=AT_CALL)
    with closing(hold(place)):
        _, told = process.communicate(timeout=300)
    assert process.returncode == 1
    file = place.folder / "mlruns" / "mlflow.db"
    assert one_error(told) == f"kd: error: tracking store 'sqlite:///{file}' can't be used: database is locked"
    done = place.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert place.outcome() == whole
