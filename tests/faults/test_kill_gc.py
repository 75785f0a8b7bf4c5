"""kill -9 at any moment of `kd gc`: the store stays consistent, and the next `kd gc` finishes the work."""

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from tasks import tracking
from tests.faults.conftest import AT_CALL, KILL, Workspace

MOMENTS = [  # one after another, in one store
    ("tasks.tracking.deletion:_models", 2),  # models of the first run, which was just marked for deletion
    ("tasks.tracking.deletion:_delete_files", 2),  # its model is deleted, its files are not
    ("tasks.tracking.deletion:alive.forget", 1),  # the run is deleted, its lock file is not
    ("tasks.tracking.deletion:_delete_files", 3),
    ("tasks.cleanup.gc:_empty", 1),  # files of a cache
]
UNPROMOTED = ("run", "small.yaml", "--quiet", "--set", "name=other", "--set", "seed=5",
              "--set", 'promote.require.accuracy=">= 0.999"')  # fmt: skip
GC = ("gc", "--older-than", "0h", "--json")


@pytest.mark.fault
def test_a_repeatedly_killed_collection_is_finished_by_the_next(workspace: Workspace) -> None:
    assert workspace.kd("run", "small.yaml", "--quiet").returncode == 0
    before = workspace.outcome()
    assert workspace.kd(*UNPROMOTED).returncode == 0
    all_runs = {run.run_id: run for run in tracking.every_run()}
    doomed = {run_id for run_id, run in all_runs.items() if run.experiment == "other"}
    assert len(doomed) == 4
    plan = json.loads(workspace.kd(*GC, "--dry-run").stdout)
    assert {deleted["run_id"] for deleted in plan["deleted"]} >= doomed

    for call, count in MOMENTS:
        assert workspace.kd(call, str(count), KILL, *GC, by=AT_CALL).returncode == -signal.SIGKILL
        remaining = {run.run_id for run in tracking.every_run()}
        assert all_runs.keys() - remaining <= doomed
        for run_id in remaining:  # every listed run still has all its files
            assert tracking.run_bytes(run_id) > 1_000
    done = workspace.kd(*GC)
    assert done.returncode == 0, done.stderr
    assert {run.run_id for run in tracking.every_run()} == all_runs.keys() - doomed
    assert tracking.marked_runs() == []
    with closing(sqlite3.connect(workspace.folder / "mlruns" / "mlflow.db")) as connection:
        models = {run_id for (run_id,) in connection.execute("SELECT source_run_id FROM logged_models")}
    assert models <= all_runs.keys() - doomed
    names = {path.name for path in (workspace.folder / "mlruns" / "artifacts").rglob("*")}
    assert not names & doomed
    assert json.loads(workspace.kd(*GC).stdout)["deleted"] == []
    assert workspace.outcome() == before
    steps = json.loads(workspace.kd("run", "small.yaml", "--dry-run", "--json").stdout)
    assert {step["action"] for step in [steps["teacher"], *steps["students"]]} == {"reuse"}
