"""Real flows whose tasks run in threads and in processes. Each flow runs in a command that can be interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdmodels.experiment import Experiment, Runner
from tasks.execution.runners import available_cores, runner_of
from tests.conftest import SMALL

FLOW = """
import gc, multiprocessing, os, sys, time
from pathlib import Path
from flows.services.prefect_server import running_server

marks = Path(os.environ["MARKS"])

def work(i, seconds):
    inherited = [os.environ["PREFECT_API_URL"], os.environ["MLFLOW_TRACKING_URI"]]
    words = [*inherited, str(os.getpid()), str(gc.isenabled())]
    (marks / f"start-{i}").write_text(" ".join(words))
    try:
        if i == 1:
            raise ValueError("one is too many")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if multiprocessing.parent_process() is None:  # in a worker, work that does not check is ended too
                interruption.check()
            time.sleep(0.01)
        return 10 * i
    except BaseException as error:
        time.sleep(0.3)  # as if it closed its records
        (marks / f"error-{i}").write_text(type(error).__name__)
        raise

def ready():
    (marks / f"ready-{os.getpid()}").touch()

if __name__ == "__main__":
    with running_server() as running:
        from prefect import flow, task
        from kdmodels.experiment import Runner
        from tasks.execution import interruption
        from tasks.execution.runners import begin_all, run_all, worker_slots, workers_for
        from tasks.execution.workers import forked_workers, run_in, worker_pool

        @task
        def working(job, workers=None):
            return run_in(workers, work, *job)

        @flow
        def fan_out(count, seconds):
            results, runner = {}, Runner(kind="thread" if kind == "thread" else "process", workers=number)
            jobs = {str(i): (i, seconds) for i in range(count)}
            with worker_pool(workers_for(runner, count)) as pool, worker_slots(working, runner, count, pool) as slots:
                early = {name: jobs.pop(name) for name in sys.argv[4:]}
                for name, future in run_all(slots, jobs, begin_all(slots[-1], early)):
                    results[name] = str(future.result(raise_on_failure=False))
            print([results[str(i)] for i in range(count)], flush=True)

        kind, number = sys.argv[1], int(os.environ.get("WORKERS", 2))
        with forked_workers(number - 1 if kind == "forked" else 0, ready):
            os.environ["MLFLOW_TRACKING_URI"] = "sqlite:////a/store.db"  # not known when the workers are forked
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
        with (tmp_path / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                command,
                env=os.environ | settings | {"WORKERS": str(workers)},
                stdout=subprocess.PIPE,
                stderr=stderr,
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
    """Return the command lines of all processes that have this folder of marks."""
    commands = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            if f"MARKS={marks}".encode() in (path / "environ").read_bytes():
                commands.append((path / "cmdline").read_text().replace("\0", " "))
    return commands


def until(true: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def wait_until_ended(process: subprocess.Popen[str], marks: Path) -> None:
    """Wait until the process ends by itself. Otherwise fail with the stacks of its threads."""
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
        process.communicate(timeout=60)
        pytest.fail((marks / "stderr").read_text())


def chosen(**changes: Any) -> Runner:
    return runner_of(Experiment.model_validate(SMALL | {"device": "cpu", "runner": {}} | changes))


def test_students_on_the_cpu_have_one_process_for_each_core_that_threads_leaves() -> None:
    cores = available_cores()
    if cores > 1:
        assert chosen() == Runner(kind="process", workers=cores)
        assert chosen(threads=cores // 2).workers == cores // (cores // 2)
        assert chosen(runner={"workers": 1}) == Runner(kind="process", workers=1)
    for alone in (chosen(threads=cores), chosen(threads=cores + 1), chosen(threads=None)):
        assert alone == Runner(kind="thread")
    assert chosen(threads=cores, runner={"workers": 3}) == Runner(kind="thread", workers=3)


def test_a_runner_in_the_file_is_not_changed() -> None:
    for runner in (Runner(kind="thread"), Runner(kind="process"), Runner(kind="process", workers=5)):
        assert chosen(runner=runner) == runner


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the cores of a process")
def test_only_the_cores_that_this_process_may_use_are_counted() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert (available_cores(), chosen()) == (1, Runner(kind="thread"))
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("kind", ["thread", "process", pytest.param("forked", marks=pytest.mark.fault)])
def test_a_task_that_raises_does_not_affect_the_others(
    kind: str, prefect_server: str, start: Start, tmp_path: Path
) -> None:
    process = start(kind, "4", "0")
    assert process.communicate(timeout=200)[0] == "['0', 'one is too many', '20', '30']\n"
    assert process.returncode == 0
    starts = [(tmp_path / f"start-{i}").read_text().split() for i in range(4)]
    url, store, *_ = starts[3]
    assert url == prefect_server
    assert store == "sqlite:////a/store.db"
    assert processes(tmp_path) == []
    pids = {int(pid) for _, _, pid, _ in starts}
    assert process.pid in pids  # this process has already imported everything
    assert len(pids) == (1 if kind == "thread" else 2)
    forked = {int(path.name.removeprefix("ready-")) for path in tmp_path.glob("ready-*")}
    assert forked == (pids - {process.pid} if kind == "forked" else set())
    assert {collecting for *_, collecting in starts} == {"True"}  # garbage collection is paused during imports only


def test_early_tasks_keep_their_slot_until_all_of_them_have_ended(start: Start, tmp_path: Path) -> None:
    process = start("process", "5", "0.5", "3", "4")
    assert process.communicate(timeout=200)[0] == "['0', 'one is too many', '20', '30', '40']\n"
    pids = [int((tmp_path / f"start-{i}").read_text().split()[2]) for i in range(5)]
    assert pids[:3] == [process.pid] * 3  # while the worker was still importing
    assert pids[3] == pids[4] != process.pid


@pytest.mark.fault
@pytest.mark.parametrize(
    ("kind", "workers", "number", "whole_group"),
    [
        ("process", 2, signal.SIGINT, True),  # Ctrl-C in a terminal
        ("process", 2, signal.SIGTERM, False),  # sent by a service manager
        ("forked", 4, signal.SIGINT, True),
        ("forked", 4, signal.SIGTERM, False),
    ],
)
def test_an_interruption_ends_running_tasks_and_starts_no_more(
    kind: str, workers: int, number: signal.Signals, whole_group: bool, start: Start, tmp_path: Path
) -> None:
    def marks(kind: str) -> set[str]:
        return {path.name.partition("-")[2] for path in tmp_path.glob(f"{kind}-*")}

    process = start(kind, "8", "100", workers=workers)
    until(lambda: len(marks("start") - {"1"}) == workers)  # all slots are busy
    started = marks("start")
    (os.killpg if whole_group else os.kill)(process.pid, number)
    wait_until_ended(process, tmp_path)
    assert process.returncode != 0
    until(lambda: not processes(tmp_path))
    assert marks("start") == started
    assert marks("error") == started
    errors = {(tmp_path / f"error-{i}").read_text() for i in started - {"1"}}
    assert errors == {"KeyboardInterrupt", "SystemExit"}  # in the command, and in its worker
    assert "Exception in thread" not in (tmp_path / "stderr").read_text()


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["process", "forked"])
def test_workers_end_when_their_parent_is_killed(kind: str, start: Start, tmp_path: Path) -> None:
    process = start(kind, "4", "100", workers=3)
    until(lambda: len(list(tmp_path.glob("start-[023]"))) == 3)
    process.kill()
    process.communicate()
    until(lambda: not processes(tmp_path))
    errors = [path.read_text() for path in tmp_path.glob("error-[023]")]
    assert errors == ["SystemExit"] * 2  # from the two workers; the command was killed
