"""Cancellation of a comparison: which run is meant, how its process is interrupted, and runs of dead processes."""

import getpass
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kdmodels.errors import UnavailableError, UserError
from tasks import cancellation, tracking
from tasks.cancellation import cancel, cancellable, ended_with, running_run_of
from tasks.execution import interruption

CHILD = """
import os, signal
from tasks import tracking
tracking.configure()
parent = tracking.start("small", "killed", "comparison")
tracking.start("small", "kd", "student", key="k", parent=parent)
print(parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def quick(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "POLL_SECONDS", 0.05)


def test_a_run_of_a_student_means_its_comparison() -> None:
    parent = tracking.start("small", "small", "comparison")
    tracking.start("small", "kd", "student", key="k", parent=parent)
    assert running_run_of("kd").run_id == running_run_of("small").run_id == running_run_of(parent[:8]).run_id


def test_a_run_of_a_judge_means_its_generation() -> None:
    parent = tracking.start("made", "made", "generation")
    tracking.start("made", "teacher", "teacher", key="k", parent=parent)
    assert running_run_of("teacher").run_id == running_run_of("made").run_id == parent


def test_other_runs_are_refused_in_one_line() -> None:
    teacher = tracking.start("small", "teacher", "teacher", key="t")
    ended = tracking.start("small", "small", "comparison")
    tracking.end(ended, "FINISHED")
    with pytest.raises(
        UserError, match=rf"^run teacher \({teacher}\) belongs to no comparison and no generation\. Allowed: "
    ):
        running_run_of("teacher")
    with pytest.raises(UserError, match=rf"^run small \({ended}\) is not running: its status is FINISHED$"):
        running_run_of("small")
    with pytest.raises(UserError, match=r"^run 'smal' is not in the tracking store; did you mean 'small'\?$"):
        running_run_of("smal")


def test_a_cancelled_run_is_interrupted_and_says_by_whom() -> None:
    run_id = tracking.start("small", "small", "comparison")
    found, stopped = running_run_of(run_id), []
    canceller = threading.Thread(target=lambda: stopped.append(cancel(found)))
    with pytest.raises(KeyboardInterrupt), tracking.recording(run_id), cancellable(run_id):  # noqa: PT012
        canceller.start()
        time.sleep(60)
    canceller.join()
    assert (stopped, tracking.get(run_id).status) == ([True], "KILLED")
    with pytest.raises(KeyboardInterrupt):  # training in other threads ends too
        interruption.check()
    assert re.fullmatch(rf"cancelled by {getpass.getuser()} on \S+ at 20\S+\+00:00", interruption.reason())
    interruption.reset()
    assert interruption.reason() == ""


def test_a_run_that_ends_by_itself_leaves_no_thread_and_no_signal_handler() -> None:
    run_id = tracking.start("small", "small", "comparison")
    with tracking.recording(run_id), cancellable(run_id):
        assert "cancellation" in {thread.name for thread in threading.enumerate()}
    assert "cancellation" not in {thread.name for thread in threading.enumerate()}
    assert signal.getsignal(interruption.SIGNAL) is signal.SIG_DFL


def test_the_runs_of_a_dead_process_are_ended() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, check=False)
    parent = child.stdout.strip()
    assert cancel(running_run_of(parent)) is False
    assert {run.name: run.status for run in tracking.runs()} == {"killed": "KILLED", "kd": "KILLED"}
    assert tracking.get(parent).tags["kd.cancel"]


def test_a_process_that_does_not_end_its_run_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "STOP_SECONDS", 0.1)
    run_id = tracking.start("small", "small", "comparison")
    with pytest.raises(UnavailableError, match=rf"^run small \({run_id}\) has not ended within 0 s\. "):
        cancel(running_run_of(run_id))


def check_for(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        interruption.check()


def test_training_in_a_worker_of_a_cluster_stops_when_its_comparison_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "COMPARISON_SECONDS", 0.05)
    parent = tracking.start("small", "small", "comparison")
    with ended_with(parent):
        time.sleep(0.2)
        interruption.check()
        tracking.end(parent, "KILLED")
        with pytest.raises(KeyboardInterrupt):
            check_for(30)
    interruption.check()  # the worker can train another student
