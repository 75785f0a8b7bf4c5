"""Ctrl-C once and twice, SIGTERM, and concurrent commands."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Workspace, single_error

LONG = ("run", "small.yaml", "--quiet", "--set", "student.epochs=100000")


def wait_for(workspace: Workspace, epoch: int, name: str = "hard-labels") -> None:
    """Wait until a student has reached an epoch in the command started last."""
    process = workspace.started[-1]

    def trained() -> bool:
        assert process.poll() is None, process.communicate()
        return last_epoch(workspace, name) >= epoch

    wait_until(trained)


def last_epoch(workspace: Workspace, name: str = "hard-labels") -> float:
    """Return the last epoch that a student has logged, or 0."""
    with sqlite3.connect(workspace.folder / "mlruns" / "mlflow.db") as connection:
        rows = connection.execute(
            "SELECT max(value) FROM latest_metrics JOIN runs USING (run_uuid) WHERE key = 'epoch' AND name = ?", (name,)
        ).fetchall()
    return rows[0][0] or 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.1)


def workers(command: int) -> list[int]:
    """Return the worker processes of a command, which it forked."""
    children = [
        int(pid) for file in Path(f"/proc/{command}/task").glob("*/children") for pid in file.read_text().split()
    ]
    words = Path(f"/proc/{command}/cmdline").read_text()
    return [pid for pid in children if Path(f"/proc/{pid}/cmdline").read_text() == words]


@pytest.mark.fault
def test_ctrl_c_while_a_worker_starts_is_reported_in_one_line(workspace: Workspace) -> None:
    """In a terminal, SIGINT reaches the worker too, here before the worker ignores it."""
    slowly = ("tasks.execution.worker_process:start_worker", "1", "trap '' INT; touch begun; sleep 2")
    process = workspace.start(*slowly, *LONG, "--set", "runner.kind=process", by=["setsid", *AT_CALL])
    wait_until(lambda: (workspace.folder / "begun").exists())
    assert len(workers(process.pid)) == 1
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "kd: interrupted\n")


@pytest.mark.fault
def test_ctrl_c_during_a_finalizer_is_reported_in_one_line(workspace: Workspace) -> None:
    """Python drops exceptions in finalizers and prints a traceback. Training must end anyway."""
    finalizer = ("asyncio.selector_events:_SelectorTransport.__del__", "1")
    interrupted = workspace.kd(*finalizer, "kill -INT $PPID", *LONG, by=AT_CALL)
    assert (interrupted.returncode, interrupted.stderr) == (130, "kd: interrupted\n")


@pytest.mark.fault
@pytest.mark.parametrize(("kind", "number"), [("process", signal.SIGINT), ("thread", signal.SIGTERM)])
def test_one_signal_saves_the_training_so_far(workspace: Workspace, kind: str, number: signal.Signals) -> None:
    """Checkpoints are an hour apart, so the one that the run resumes from was written because of the signal."""
    process = workspace.start(*LONG, "--set", f"runner.kind={kind}", KD_CHECKPOINT_SECONDS="3600")
    in_training = (
        ["hard-labels", "kd"] if kind == "process" else ["hard-labels"]
    )  # the first student trains in the worker
    for name in in_training:
        wait_for(workspace, 5, name)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "kd: interrupted\n")
    steps = json.loads(workspace.kd(*LONG, "--dry-run", "--json").stdout)["students"]
    assert [step["name"] for step in steps if step["action"] == "resume"] == in_training
    for step in steps[: len(in_training)]:
        epoch = int(step["reason"].split(" was interrupted after epoch ")[1])
        checkpoints = (workspace.folder / "cache").rglob(f"{step['key']}/epoch-*.json")
        assert [json.loads(file.read_text())["epoch"] >= epoch >= 5 for file in checkpoints] == [True]


@pytest.mark.fault
def test_a_killed_worker_is_reported_and_the_same_command_resumes(workspace: Workspace) -> None:
    process = workspace.start(*LONG, "--set", "runner.kind=process")
    wait_for(workspace, 5, "kd")
    (worker,) = workers(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert single_error(stderr).startswith(
        "kd: error: a process that trains students was killed, stopped or ran out of "
    )
    done = workspace.kd("run", "small.yaml", "--json", "--set", "runner.kind=process")
    assert done.returncode == 0, done.stderr


@pytest.mark.fault
def test_a_student_without_distillation_trains_beside_the_teacher(workspace: Workspace) -> None:
    command = ("run", "small.yaml", "--set", "runner.kind=process", "--set", "teacher.epochs=100000")
    process = workspace.start(*command, "--quiet", "--set", "student.epochs=100000")
    wait_for(workspace, 5, "hard-labels")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.splitlines()[-1]) == (130, "kd: interrupted")
    plan = json.loads(workspace.kd(*command, "--set", "student.epochs=100000", "--dry-run", "--json").stdout)
    actions = {step["name"]: step["action"] for step in [plan["teacher"], *plan["students"]]}
    assert actions == {"teacher": "resume", "hard-labels": "resume", "kd": "train"}


@pytest.mark.fault
def test_a_failed_teacher_ends_students_that_train_beside_it(workspace: Workspace) -> None:
    """The teacher fails at its export, after hard-labels has started."""
    fails = "until [ -e begun ]; do sleep 0.1; done; false"
    process = workspace.start(
        "tasks.training_runs:record_network", "1", fails, *LONG, "--set", "runner.kind=process", by=AT_CALL
    )
    wait_for(workspace, 5, "hard-labels")
    (workspace.folder / "begun").touch()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith("kd: error: CalledProcessError: ")
    assert "Exception in thread" not in stderr
    runs = {run["name"]: run["status"] for run in json.loads(workspace.kd("list", "--json").stdout)}
    assert runs == {"small": "FAILED", "teacher": "FAILED", "hard-labels": "KILLED"}


@pytest.mark.fault
def test_ctrl_c_twice_stops_at_once(workspace: Workspace) -> None:
    """The second Ctrl-C arrives during the cleanup after the first. The student can still be resumed."""
    held = "exec >/dev/null; touch held; while kill -0 $PPID; do sleep 0.1; done"
    process = workspace.start("tasks.tracking.lifecycle:_end_if_running", "2", held, *LONG, by=AT_CALL)
    wait_for(workspace, 1)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: (workspace.folder / "held").exists())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.splitlines()[-1]) == (130, "kd: stopped at once")
    steps = json.loads(workspace.kd(*LONG, "--dry-run", "--json").stdout)["students"]
    assert steps[0]["action"] == "resume"


@pytest.mark.fault
def test_concurrent_commands_do_the_work_once(workspace: Workspace, expected: dict[str, Any]) -> None:
    both = [workspace.start("run", "small.yaml", "--json", "--quiet") for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    one, other = (json.loads(stdout) for stdout, _ in outputs)
    assert [row["run_id"] for row in one["students"]] == [row["run_id"] for row in other["students"]]
    assert sorted([one["verdict"]["promoted"], other["verdict"]["promoted"]]) == [False, True]
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_four_concurrent_first_uses_of_an_empty_store(workspace: Workspace, expected: dict[str, Any]) -> None:
    """Neither the store, the cache of decoded data nor a Prefect server exists yet."""
    for path in (workspace.folder / "mlruns").iterdir():
        path.unlink()
    prefect = {"PREFECT_HOME": str(workspace.folder / "prefect"), "PREFECT_API_URL": ""}
    four = [workspace.start("run", "small.yaml", "--quiet", **prefect) for _ in range(4)]
    errors = [process.communicate(timeout=600)[1] for process in four]
    assert [process.returncode for process in four] == [0] * 4, errors
    assert "locked" not in "".join(errors)
    assert workspace.outcome() == expected
