"""Ctrl-C, once and twice; SIGTERM; and two commands at once."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Place, one_error

LONG = ("run", "small.yaml", "--quiet", "--set", "student.epochs=100000")


def wait_for(place: Place, epoch: int, name: str = "hard-labels") -> None:
    """Until a student has come so far in the command that was started last."""
    process = place.started[-1]

    def trained() -> bool:
        assert process.poll() is None, process.communicate()
        with sqlite3.connect(place.folder / "mlruns" / "mlflow.db") as connection:
            rows = connection.execute(
                "SELECT max(value) FROM latest_metrics JOIN runs USING (run_uuid) WHERE key = 'epoch' AND name = ?",
                (name,),
            ).fetchall()
        return bool((rows[0][0] or 0) >= epoch)

    wait_until(trained)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def workers(command: int) -> list[int]:
    """The worker processes of a command, which are forked from it."""
    children = [
        int(pid) for told in Path(f"/proc/{command}/task").glob("*/children") for pid in told.read_text().split()
    ]
    words = Path(f"/proc/{command}/cmdline").read_text()
    return [pid for pid in children if Path(f"/proc/{pid}/cmdline").read_text() == words]


@pytest.mark.fault
def test_ctrl_c_while_a_worker_begins_is_told_in_one_line(place: Place) -> None:
    """In a terminal it reaches the worker too, here before that ignores it."""
    slowly = ("tasks.workers:_prepare", "1", "trap '' INT; touch begun; sleep 2")
    process = place.start(*slowly, *LONG, "--set", "runner.kind=process", by=["setsid", *AT_CALL])
    wait_until(lambda: (place.folder / "begun").exists())
    assert len(workers(process.pid)) == 1
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "kd: interrupted\n")


@pytest.mark.fault
def test_ctrl_c_in_a_clean_up_is_told_in_one_line(place: Place) -> None:
    """Where Python drops what is raised, with a traceback; training ends by it all the same."""
    a_clean_up = ("asyncio.selector_events:_SelectorTransport.__del__", "1")
    interrupted = place.kd(*a_clean_up, "kill -INT $PPID", *LONG, by=AT_CALL)
    assert (interrupted.returncode, interrupted.stderr) == (130, "kd: interrupted\n")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("kind", "number"), [("thread", signal.SIGINT), ("process", signal.SIGINT), ("thread", signal.SIGTERM)]
)
def test_one_signal_keeps_what_was_trained(place: Place, kind: str, number: signal.Signals) -> None:
    """With an hour between two checkpoints: the one that goes on was written because of the signal."""
    process = place.start(*LONG, "--set", f"runner.kind={kind}", KD_CHECKPOINT_SECONDS="3600")
    at_work = ["hard-labels", "kd"] if kind == "process" else ["hard-labels"]  # the first in the worker
    for name in at_work:
        wait_for(place, 5, name)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "kd: interrupted\n")
    steps = json.loads(place.kd(*LONG, "--dry-run", "--json").stdout)["students"]
    assert [step["name"] for step in steps if step["action"] == "resume"] == at_work
    for step in steps[: len(at_work)]:
        epoch = int(step["reason"].split(" was interrupted after epoch ")[1])
        kept = (place.folder / "cache").rglob(f"{step['key']}/epoch-*.json")
        assert [json.loads(file.read_text())["epoch"] >= epoch >= 5 for file in kept] == [True]


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_is_told_and_the_same_command_goes_on(place: Place, number: signal.Signals) -> None:
    process = place.start(*LONG, "--set", "runner.kind=process")
    wait_for(place, 5, "kd")
    (worker,) = workers(process.pid)
    os.kill(worker, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert one_error(told).startswith("kd: error: a process that trains students was killed, stopped or ran out of ")
    done = place.kd("run", "small.yaml", "--json", "--set", "runner.kind=process")
    assert done.returncode == 0, done.stderr


@pytest.mark.fault
def test_a_student_that_needs_no_teacher_trains_beside_it(place: Place) -> None:
    beside = ("run", "small.yaml", "--set", "runner.kind=process", "--set", "teacher.epochs=100000")
    process = place.start(*beside, "--quiet", "--set", "student.epochs=100000")
    wait_for(place, 5, "hard-labels")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.splitlines()[-1]) == (130, "kd: interrupted")
    plan = json.loads(place.kd(*beside, "--set", "student.epochs=100000", "--dry-run", "--json").stdout)
    actions = {step["name"]: step["action"] for step in [plan["teacher"], *plan["students"]]}
    assert actions == {"teacher": "resume", "hard-labels": "resume", "kd": "train"}


@pytest.mark.fault
def test_a_teacher_that_fails_ends_what_trains_beside_it(place: Place) -> None:
    """At its export, once hard-labels has begun."""
    fails = "until [ -e begun ]; do sleep 0.1; done; false"
    process = place.start("tasks.runs:record_network", "1", fails, *LONG, "--set", "runner.kind=process", by=AT_CALL)
    wait_for(place, 5, "hard-labels")
    (place.folder / "begun").touch()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.splitlines()[-1].startswith("kd: error: CalledProcessError: ")
    assert "Exception in thread" not in told
    runs = {run["name"]: run["status"] for run in json.loads(place.kd("list", "--json").stdout)}
    assert runs == {"small": "FAILED", "teacher": "FAILED", "hard-labels": "KILLED"}


@pytest.mark.fault
def test_ctrl_c_twice_stops_at_once(place: Place) -> None:
    """While the first one's clean-up takes long; what was trained goes on all the same."""
    held = "exec >/dev/null; touch held; while kill -0 $PPID; do sleep 0.1; done"
    process = place.start("tasks.tracking.lifecycle:_end_if_running", "2", held, *LONG, by=AT_CALL)
    wait_for(place, 1)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: (place.folder / "held").exists())
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.splitlines()[-1]) == (130, "kd: stopped at once")
    steps = json.loads(place.kd(*LONG, "--dry-run", "--json").stdout)["students"]
    assert steps[0]["action"] == "resume"


@pytest.mark.fault
def test_two_commands_at_once_do_the_work_once(place: Place, whole: dict[str, Any]) -> None:
    both = [place.start("run", "small.yaml", "--json", "--quiet") for _ in range(2)]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    one, other = (json.loads(out) for out, _ in told)
    assert [row["run_id"] for row in one["students"]] == [row["run_id"] for row in other["students"]]
    assert sorted([one["verdict"]["promoted"], other["verdict"]["promoted"]]) == [False, True]
    assert place.outcome() == whole


@pytest.mark.fault
def test_four_first_uses_of_an_empty_store_at_once(place: Place, whole: dict[str, Any]) -> None:
    """Nobody has made the store, the data's cache or a Prefect server."""
    for path in (place.folder / "mlruns").iterdir():
        path.unlink()
    four = [place.start("run", "small.yaml", "--quiet", PREFECT_HOME=str(place.folder / "prefect"), PREFECT_API_URL="")
            for _ in range(4)]  # fmt: skip
    told = [process.communicate(timeout=600)[1] for process in four]
    assert [process.returncode for process in four] == [0] * 4, told
    assert "locked" not in "".join(told)
    assert place.outcome() == whole
