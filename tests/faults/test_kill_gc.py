"""kill -9 at any moment of `kd gc`: what it left is sound, and the next one ends what was begun."""

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from tasks import tracking
from tests.faults.conftest import AT_CALL, KILL, Place

MOMENTS = [  # one after the other, in one store
    ("tasks.tracking.deletion:_models", 2),  # of the first run, which was just marked
    ("tasks.tracking.deletion:_delete_files", 2),  # its model is gone, its files are not
    ("tasks.tracking.deletion:alive.forget", 1),  # the run is gone, its lock's file is not
    ("tasks.tracking.deletion:_delete_files", 3),
    ("flows.gc:_empty", 1),  # of a cache
]
UNPROMOTED = ("run", "small.yaml", "--quiet", "--set", "name=other", "--set", "seed=5",
              "--set", 'promote.require.accuracy=">= 0.999"')  # fmt: skip
GC = ("gc", "--older-than", "0h", "--json")


@pytest.mark.fault
def test_a_collection_killed_again_and_again_is_ended_by_the_next(place: Place) -> None:
    assert place.kd("run", "small.yaml", "--quiet").returncode == 0
    before = place.outcome()
    assert place.kd(*UNPROMOTED).returncode == 0
    every = {run.run_id: run for run in tracking.every_run()}
    doomed = {run_id for run_id, run in every.items() if run.experiment == "other"}
    assert len(doomed) == 4
    told = json.loads(place.kd(*GC, "--dry-run").stdout)
    assert {each["run_id"] for each in told["deleted"]} >= doomed

    for call, count in MOMENTS:
        assert place.kd(call, str(count), KILL, *GC, by=AT_CALL).returncode == -signal.SIGKILL
        left = {run.run_id for run in tracking.every_run()}
        assert every.keys() - left <= doomed
        for run_id in left:  # whoever is still seen has all that is its own
            assert tracking.run_bytes(run_id) > 1_000
    done = place.kd(*GC)
    assert done.returncode == 0, done.stderr
    assert {run.run_id for run in tracking.every_run()} == every.keys() - doomed
    assert tracking.marked_runs() == []
    with closing(sqlite3.connect(place.folder / "mlruns" / "mlflow.db")) as connection:
        models = {run_id for (run_id,) in connection.execute("SELECT source_run_id FROM logged_models")}
    assert models <= every.keys() - doomed
    names = {path.name for path in (place.folder / "mlruns" / "artifacts").rglob("*")}
    assert not names & doomed
    assert json.loads(place.kd(*GC).stdout)["deleted"] == []
    assert place.outcome() == before
    steps = json.loads(place.kd("run", "small.yaml", "--dry-run", "--json").stdout)
    assert {step["action"] for step in [steps["teacher"], *steps["students"]]} == {"reuse"}
