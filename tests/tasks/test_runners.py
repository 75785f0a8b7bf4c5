"""Real flows whose tasks run in threads and in processes, each in a command of its own that can be interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FLOW = """
import gc, multiprocessing, os, sys, time
from pathlib import Path
from flows.server import running_server

marks = Path(os.environ["MARKS"])

def work(i, seconds):
    inherited = [os.environ["PREFECT_API_URL"], os.environ["MLFLOW_TRACKING_URI"]]
    told = [*inherited, str(os.getpid()), str(gc.isenabled())]
    (marks / f"start-{i}").write_text(" ".join(told))
    try:
        if i == 1:
            raise ValueError("one is too many")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if multiprocessing.parent_process() is None:  # elsewhere a task that does not ask is ended too
                interruption.check()
            time.sleep(0.01)
        return 10 * i
    except BaseException as error:
        time.sleep(0.3)  # closing its records
        (marks / f"error-{i}").write_text(type(error).__name__)
        raise

def ready():
    (marks / f"ready-{os.getpid()}").touch()

if __name__ == "__main__":
    with running_server() as running:
        from prefect import flow, task
        from kdmodels.experiment import Runner
        from tasks import interruption
        from tasks.runners import begin, places, run_all, workers_for
        from tasks.workers import done, forked, workers

        @task
        def told(i, seconds, pool=None):
            return done(pool, work, i, seconds)

        @flow
        def fan_out(count, seconds):
            results, runner = {}, Runner(kind="thread" if kind == "thread" else "process", workers=number)
            calls = {str(i): {"i": i, "seconds": seconds} for i in range(count)}
            with workers(workers_for(runner, count)) as pool, places(runner, count, pool) as where:
                early = {name: calls.pop(name) for name in sys.argv[4:]}
                for name, future in run_all(where, told, calls, begin(where[-1], told, early)):
                    results[name] = str(future.result(raise_on_failure=False))
            print([results[str(i)] for i in range(count)], flush=True)

        kind, number = sys.argv[1], int(os.environ.get("WORKERS", 2))
        with forked(number - 1 if kind == "forked" else 0, ready):
            os.environ["MLFLOW_TRACKING_URI"] = "sqlite:////a/store.db"  # not known before
            running.wait_ready()
            fan_out(int(sys.argv[2]), float(sys.argv[3]))
"""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(prefect_server: str, tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "flow.py").write_text(FLOW)
    settings = {"MARKS": str(tmp_path)}

    def start(*arguments: str, workers: int = 2) -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "faulthandler", str(tmp_path / "flow.py"), *arguments]
        with (tmp_path / "told").open("w") as told:
            process = subprocess.Popen(
                command,
                env=os.environ | settings | {"WORKERS": str(workers)},
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    yield start
    for process in started:
        process.kill()


def processes(marks: Path) -> list[str]:
    """The command lines of all processes that were started with these MARKS."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            if f"MARKS={marks}".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text().replace("\0", " "))
    return found


def until(true: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], marks: Path) -> None:
    """It ends by itself; else the failure says where each of its threads stood."""
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # at which Python tells
        process.communicate(timeout=60)
        pytest.fail((marks / "told").read_text())


@pytest.mark.parametrize("kind", ["thread", "process", "forked"])
def test_a_task_that_raises_loses_nothing_of_the_others(
    kind: str, prefect_server: str, start: Start, tmp_path: Path
) -> None:
    process = start(kind, "4", "0")
    assert process.communicate(timeout=200)[0] == "['0', 'one is too many', '20', '30']\n"
    assert process.returncode == 0
    told = [(tmp_path / f"start-{i}").read_text().split() for i in range(4)]
    url, store, *_ = told[3]
    assert url == prefect_server
    assert store == "sqlite:////a/store.db"
    assert processes(tmp_path) == []
    places = {int(pid) for _, _, pid, _ in told}
    assert process.pid in places  # which has imported everything already
    assert len(places) == (1 if kind == "thread" else 2)
    forked = {int(path.name.removeprefix("ready-")) for path in tmp_path.glob("ready-*")}
    assert forked == (places - {process.pid} if kind == "forked" else set())
    assert {collecting for *_, collecting in told} == {"True"}  # but for the imports


def test_what_began_early_keeps_its_place_until_all_of_it_has_ended(start: Start, tmp_path: Path) -> None:
    process = start("process", "5", "0.5", "3", "4")
    assert process.communicate(timeout=200)[0] == "['0', 'one is too many', '20', '30', '40']\n"
    pids = [int((tmp_path / f"start-{i}").read_text().split()[2]) for i in range(5)]
    assert pids[:3] == [process.pid] * 3  # while the other process still imported
    assert pids[3] == pids[4] != process.pid


@pytest.mark.parametrize(
    ("kind", "workers", "number", "whole_group"),
    [
        pytest.param("process", 2, signal.SIGINT, True, marks=pytest.mark.fault),  # Ctrl-C in a terminal
        ("process", 2, signal.SIGTERM, False),  # a service manager's stop
        ("forked", 4, signal.SIGINT, True),
        pytest.param("forked", 4, signal.SIGTERM, False, marks=pytest.mark.fault),
    ],
)
def test_an_interruption_closes_what_runs_and_starts_nothing_more(
    kind: str, workers: int, number: signal.Signals, whole_group: bool, start: Start, tmp_path: Path
) -> None:
    def marks(kind: str) -> set[str]:
        return {path.name.partition("-")[2] for path in tmp_path.glob(f"{kind}-*")}

    process = start(kind, "8", "100", workers=workers)
    until(lambda: len(marks("start") - {"1"}) == workers)  # all places are busy, with whichever came first
    started = marks("start")
    (os.killpg if whole_group else os.kill)(process.pid, number)
    ended(process, tmp_path)
    assert process.returncode != 0
    until(lambda: not processes(tmp_path))
    assert marks("start") == started
    assert marks("error") == started
    errors = {(tmp_path / f"error-{i}").read_text() for i in started - {"1"}}
    assert errors == {"KeyboardInterrupt", "SystemExit"}  # in the command itself, and in its worker
    assert "Exception in thread" not in (tmp_path / "told").read_text()


@pytest.mark.parametrize("kind", ["process", "forked"])
def test_workers_end_when_their_parent_is_killed(kind: str, start: Start, tmp_path: Path) -> None:
    process = start(kind, "4", "100", workers=3)
    until(lambda: len(list(tmp_path.glob("start-[023]"))) == 3)
    process.kill()
    process.communicate()
    until(lambda: not processes(tmp_path))
    errors = [path.read_text() for path in tmp_path.glob("error-[023]")]
    assert errors == ["SystemExit"] * 2  # of the two workers; the command itself had no time
