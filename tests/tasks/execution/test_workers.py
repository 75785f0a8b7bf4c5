"""What a worker process sends back: results, errors, and the report of its own end."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from kdmodels.errors import UnavailableError, UserError
from tasks.execution import interruption
from tasks.execution.worker_process import GRACE_SECONDS
from tasks.execution.workers import begin_workers, run_in, worker_pool

WORKER_GONE = "a process that trains students was killed, stopped or"


STUCK = """
import hashlib, os, sys
from pathlib import Path
from tasks.execution.workers import forked_workers, run_in, worker_pool

def compute():
    Path(sys.argv[1]).write_text(str(os.getpid()))
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

with forked_workers(1, os.getpid), worker_pool(1) as pool:
    run_in(pool, compute)
"""


def until(true: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


class OddError(Exception):
    """An error that cannot be unpickled: its `args` has 1 value, but its constructor takes 2."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class LockedError(Exception):
    """An error that cannot be pickled, because it holds a lock."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


def describe_process(number: int, *, name: str) -> tuple[int, str | None, bool]:
    return number, os.environ.get(name), multiprocessing.parent_process() is None


def fail(error: BaseException) -> None:
    raise error


def fail_oddly() -> None:
    raise OddError("two", "more")


def fail_with_a_lock() -> None:
    raise LockedError


def fail_because() -> None:
    raise UserError("a mistake") from OSError("its reason")


def end(number: int) -> None:
    os.kill(os.getpid(), number)
    while True:
        signal.pause()


def end_in_an_error() -> None:
    try:
        end(signal.SIGTERM)
    except SystemExit as error:
        raise UserError("a mistake") from error


def end_slowly() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        interruption.check()
    finally:
        time.sleep(GRACE_SECONDS + 0.5)
        Path(os.environ["KD_TEST"]).touch()


def never_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        with contextlib.suppress(SystemExit):
            signal.pause()


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor | None]:
    with worker_pool(1) as pool:
        yield pool


def test_without_a_pool_this_process_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_pool(0) as pool:
        assert pool is None
    monkeypatch.setenv("KD_TEST", "one")
    assert run_in(None, describe_process, 1, name="KD_TEST") == (1, "one", True)
    with pytest.raises(KeyboardInterrupt):
        run_in(None, fail, KeyboardInterrupt())


def test_a_worker_has_the_current_environment_of_its_parent(
    pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("one", "two"):
        monkeypatch.setenv("KD_TEST", value)
        assert run_in(pool, describe_process, 1, name="KD_TEST") == (1, value, False)


def test_errors_are_sent_back_and_the_worker_continues(pool: ProcessPoolExecutor) -> None:
    with pytest.raises(UserError, match="a mistake"):
        run_in(pool, fail, UserError("a mistake"))
    with pytest.raises(UserError, match="a mistake") as error:
        run_in(pool, fail_because)
    assert "its reason" in str(error.value.__cause__)  # the worker's traceback, for --debug
    for work, message in ((fail_oddly, "OddError: two and more"), (fail_with_a_lock, "LockedError: held")):
        begin_workers(pool, 1, work)
        with pytest.raises(RuntimeError, match=message):
            run_in(pool, work)
    for error in (KeyboardInterrupt(), SystemExit(3)):  # must not look like errors of this process
        with pytest.raises(UnavailableError, match=WORKER_GONE):
            run_in(pool, fail, error)
    assert run_in(pool, describe_process, 2, name="NO_SUCH") == (2, None, False)


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_a_worker_is_reported(number: signal.Signals) -> None:
    with worker_pool(1) as pool:
        assert pool is not None
        for _ in range(2):  # the second time the worker is already gone
            with pytest.raises(UnavailableError, match=WORKER_GONE):
                run_in(pool, end, number)
        with pytest.raises(UnavailableError, match=WORKER_GONE):
            begin_workers(pool, 1, os.getpid)


@pytest.mark.fault
@pytest.mark.parametrize("work", [end_in_an_error, never_end])
def test_work_cannot_keep_a_worker_from_ending(work: Callable[[], None]) -> None:
    """An error that hid the end used to look like the student's own, and work that continued was waited for forever."""
    with worker_pool(1) as pool, pytest.raises(UnavailableError, match=WORKER_GONE):
        run_in(pool, work)


def test_a_failure_does_not_stop_later_work() -> None:
    with pytest.raises(ValueError, match="once"), worker_pool(1):
        raise ValueError("once")
    interruption.check()


def test_stopped_work_may_take_longer_than_a_second_to_write_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_TEST", str(tmp_path / "written"))
    with worker_pool(1) as pool, pytest.raises(UnavailableError, match=WORKER_GONE):
        run_in(pool, end_slowly)
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("name", [".env", "prefect.toml", "pyproject.toml"])
def test_a_spawned_worker_reads_no_settings_from_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduled run starts in the folder of its schedule, and Prefect's logging settings can name code to run."""
    config = tmp_path / "logging.yml"
    config.write_text("version: 1\nhandlers: {x: {'()': os.mkdir, path: canary}}\n")
    line = f'config_path = "{config}"'
    texts = {
        ".env": f"PREFECT_LOGGING_SETTINGS_PATH={config}\n",
        "prefect.toml": f"[logging]\n{line}\n",
        "pyproject.toml": f"[tool.prefect.logging]\n{line}\n",
    }
    (tmp_path / name).write_text(texts[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_LOGGING_SETTINGS_PATH", raising=False)
    with worker_pool(1, imports="tasks.train_student") as pool:
        assert run_in(pool, os.getcwd) == str(tmp_path)
    assert not (tmp_path / "canary").exists()


def test_an_idle_worker_ends_at_once() -> None:
    """Python would take 3 s to unload torch."""
    with worker_pool(1, imports="torch") as pool:
        run_in(pool, os.getpid)
        began = time.monotonic()
    assert time.monotonic() - began < 1


@pytest.mark.fault  # 10 s
def test_a_worker_ends_with_its_parent_although_its_main_thread_never_returns_to_python(tmp_path: Path) -> None:
    """A long call of native code keeps Python from handling a signal."""
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", STUCK, str(pid_file)])
    try:
        until(lambda: pid_file.exists() and pid_file.read_text())
        worker = Path("/proc") / pid_file.read_text()
        parent.kill()
        parent.wait()
        until(lambda: not worker.exists(), seconds=30)
    finally:
        parent.kill()
