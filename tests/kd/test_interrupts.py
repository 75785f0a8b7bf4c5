"""Ctrl-C and SIGTERM, once and twice."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.kd.conftest import KD, Done

# A process that receives a first signal, and perhaps a second signal during a clean-up that never ends.
SIGNALS = """
import signal, time
from kd.interrupts import Interrupts
Interrupts().install()
try:
    signal.raise_signal(signal.{first})
except KeyboardInterrupt:
    print("interrupted", flush=True)
    {after}
"""


def process(first: str, after: str) -> Done:
    command = [sys.executable, "-c", SIGNALS.format(first=first, after=after)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_first_signal_raises_and_the_second_ends_the_process(name: str) -> None:
    done = process(name, "pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
    done = process(name, "try: signal.raise_signal(signal.SIGINT)\n    finally: time.sleep(3600)")
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted\n", "kd: stopped at once\n")


def test_an_ignored_sigint_stays_ignored() -> None:
    script = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SIGNALS.format(
        first="SIGINT", after="pass"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""


def test_an_interrupt_in_a_destructor_is_not_reported_but_other_errors_are() -> None:
    destructor = "class A:\n        def __del__(self): raise {error}\n    A()"
    assert process("SIGINT", destructor.format(error="KeyboardInterrupt")).stderr == ""
    assert "ValueError" in process("SIGINT", destructor.format(error="ValueError")).stderr


def statuses(folder: Path) -> list[tuple[str, str]]:
    """Return the name and status of each run in the store, newest first, without MLflow."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as connection:
        return connection.execute("SELECT name, status FROM runs ORDER BY start_time DESC").fetchall()


@pytest.fixture
def training(folder: Path, environment: dict[str, str]) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Start a run that would train its first student for hours, and return once the training has started."""
    started: list[subprocess.Popen[str]] = []

    def training(kind: str) -> "subprocess.Popen[str]":
        command = [KD, "run", "small.yaml", "--set", "student.epochs=100000", "--set", f"runner.kind={kind}", "--fresh"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr
        lines = [next(process.stderr)]
        while "hard-labels: training" not in lines[-1]:
            line = process.stderr.readline()
            assert line, f"the run ended: {lines}"
            lines.append(line)
        return process

    yield training
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.fault
def test_an_interrupted_run_gives_exit_code_130_and_its_runs_are_killed(
    training: Callable[[str], "subprocess.Popen[str]"],
    folder: Path,
    second_run: Done,
    kind: str,
    number: signal.Signals,
) -> None:
    process = training(kind)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.splitlines()[-1] == "kd: interrupted"
    runs = statuses(folder)
    assert [next(status for name, status in runs if name == wanted) for wanted in ("small", "hard-labels")] == [
        "KILLED",
        "KILLED",
    ]
    assert "RUNNING" not in {status for _, status in runs}
