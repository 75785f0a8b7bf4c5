"""Detection of runs whose process no longer exists, by the locks that the system frees."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from tasks import tracking

CHILD = """
import sys, time
from tasks import tracking
tracking.configure()
run_id = tracking.start("digits", sys.argv[1], "student", key="k")
with tracking.recording(run_id):
    tracking.log_metrics(run_id, [("epoch", 1, 1)])
    print(run_id, flush=True)
    time.sleep(600)
"""
Recording = Callable[[str], tuple[str, "subprocess.Popen[str]"]]


@pytest.fixture
def recording(store: Path) -> Iterator[Recording]:
    """Return a function that starts a process which records a run, and returns the run's id and the process."""
    started: list[subprocess.Popen[str]] = []

    def recording(name: str) -> tuple[str, "subprocess.Popen[str]"]:
        process = subprocess.Popen([sys.executable, "-c", CHILD, name], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        return process.stdout.readline().strip(), process

    yield recording
    for process in started:
        process.kill()
        process.communicate()


def locks() -> list[str]:
    return [path.name for path in tracking.machine_folder("runs").iterdir()]


@pytest.mark.fault
def test_only_the_runs_of_dead_processes_are_ended(recording: Recording) -> None:
    (dead, killed), (living, _) = recording("dead"), recording("living")
    own = tracking.start("digits", "own", "student")
    killed.kill()
    killed.wait()
    assert [run.run_id for run in tracking.end_abandoned("digits")] == [dead]
    status = {run.run_id: run.status for run in tracking.runs()}
    assert status == {dead: "KILLED", living: "RUNNING", own: "RUNNING"}
    assert tracking.end_abandoned("digits") == []
    assert len(locks()) == 2
    assert tracking.end_abandoned("nothing") == []


def test_a_run_that_ends_leaves_no_lock(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    assert not tracking.is_dead(tracking.get(run_id).tags)
    with tracking.recording(run_id):
        assert len(locks()) == 1
    assert locks() == []
    assert not tracking.is_dead(tracking.get(run_id).tags)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "", "0" * 32])
def test_a_run_of_another_machine_is_never_ended(store: Path, name: str) -> None:
    run_id = tracking.start("digits", "kd", "student")
    tracking.set_tags(run_id, {"kd.lock": name})
    assert not tracking.is_dead(tracking.get(run_id).tags)
    assert tracking.end_abandoned("digits") == []


def test_a_store_that_refuses_a_run_leaves_no_lock(store: Path) -> None:
    with pytest.raises(MlflowException, match="Invalid"):
        tracking.start("digits", "kd", "student", params={"a name with a ?": 1})
    assert locks() == []
    assert [run.status for run in tracking.runs()] == ["FAILED"]


def test_a_run_whose_end_could_not_be_recorded_is_ended_by_the_next_command(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the lock was once removed even if the store did not answer, and the run stayed RUNNING for ever."""

    def gone(run_id: str, status: str) -> None:
        raise ConnectionError("the store is gone")

    run_id = tracking.start("digits", "kd", "student")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.tracking.lifecycle.end", gone)
        with pytest.raises(ConnectionError), tracking.recording(run_id):
            pass
    assert [run.run_id for run in tracking.end_abandoned("digits")] == [run_id]
    assert tracking.get(run_id).status == "KILLED"
    assert locks() == []


def test_a_resumed_run_logs_no_metric_twice(recording: Recording) -> None:
    run_id, process = recording("kd")
    process.send_signal(signal.SIGKILL)
    process.wait()
    tracking.end_abandoned("digits")
    parent = tracking.start("digits", "later", "comparison")
    again = tracking.start("digits", "kd", "student", key="k", parent=parent, params={"lr": 1}, continues=run_id)
    assert again == run_id
    run = tracking.get(run_id)
    assert (run.status, run.parent, run.params) == ("RUNNING", parent, {"lr": "1"})
    assert int(run.tags["kd.resumed"]) >= run.start
    with tracking.recording(run_id):
        tracking.log_metrics(run_id, [("epoch", 1, 1), ("epoch", 2, 2), ("loss", 0.5, 1)])
    assert history(run_id, "epoch") == [1, 2]
    assert history(run_id, "loss") == [1]
    assert tracking.get(run_id).status == "FINISHED"
    assert os.getpid() != process.pid


def history(run_id: str, name: str) -> list[int]:
    from mlflow import MlflowClient

    return [metric.step for metric in MlflowClient().get_metric_history(run_id, name)]
