"""What a worker process sends back: results, errors, and word of its own end."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from kdmodels.errors import UnavailableError, UserError
from tasks import interruption, workers

TOLD = "a process that trains students was killed, stopped or"


class OddError(Exception):
    """Pickle makes an exception anew from its `args`, of which this one has fewer than it asks for."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class LockedError(Exception):
    """What it holds can't be sent."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


def here(number: int, *, name: str) -> tuple[int, str | None, bool]:
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
    except SystemExit as stopped:
        raise UserError("a mistake") from stopped


def end_slowly() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        interruption.check()
    finally:
        time.sleep(workers.GRACE_SECONDS + 0.5)
        Path(os.environ["KD_TEST"]).touch()


def never_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        with contextlib.suppress(SystemExit):
            signal.pause()


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor | None]:
    with workers.workers(1) as pool:
        yield pool


def test_without_a_pool_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with workers.workers(0) as pool:
        assert pool is None
    monkeypatch.setenv("KD_TEST", "one")
    assert workers.done(None, here, 1, name="KD_TEST") == (1, "one", True)
    with pytest.raises(KeyboardInterrupt):
        workers.done(None, fail, KeyboardInterrupt())


def test_a_worker_has_the_environment_of_the_moment(pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("one", "two"):
        monkeypatch.setenv("KD_TEST", word)
        assert workers.done(pool, here, 1, name="KD_TEST") == (1, word, False)


def test_errors_are_sent_back_and_the_worker_goes_on(pool: ProcessPoolExecutor) -> None:
    with pytest.raises(UserError, match="a mistake"):
        workers.done(pool, fail, UserError("a mistake"))
    with pytest.raises(UserError, match="a mistake") as caught:
        workers.done(pool, fail_because)
    assert "its reason" in str(caught.value.__cause__)  # a worker's whole traceback, for --debug
    for work, told in ((fail_oddly, "OddError: two and more"), (fail_with_a_lock, "LockedError: held")):
        workers.begin_workers(pool, 1, work)
        with pytest.raises(RuntimeError, match=told):
            workers.done(pool, work)
    for stop in (KeyboardInterrupt(), SystemExit(3)):  # else they would be taken for this process's own
        with pytest.raises(UnavailableError, match=TOLD):
            workers.done(pool, fail, stop)
    assert workers.done(pool, here, 2, name="NO_SUCH") == (2, None, False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_is_told(number: signal.Signals) -> None:
    with workers.workers(1) as pool:
        assert pool is not None
        for _ in range(2):  # also of one that is gone already
            with pytest.raises(UnavailableError, match=TOLD):
                workers.done(pool, end, number)
        with pytest.raises(UnavailableError, match=TOLD):
            workers.begin_workers(pool, 1, os.getpid)


@pytest.mark.parametrize("work", [end_in_an_error, never_end])
def test_a_worker_that_is_ended_is_gone_whatever_its_work_makes_of_that(work: Callable[[], None]) -> None:
    """An error that hid the end was taken for the student's own, and work that went on was waited for, for ever."""
    with workers.workers(1) as pool, pytest.raises(UnavailableError, match=TOLD):
        workers.done(pool, work)


def test_a_failure_stops_nothing_that_begins_after_it() -> None:
    with pytest.raises(ValueError, match="once"), workers.workers(1):
        raise ValueError("once")
    interruption.check()


def test_work_that_ends_by_a_stop_may_write_its_checkpoint_for_longer_than_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_TEST", str(tmp_path / "written"))
    with workers.workers(1) as pool, pytest.raises(UnavailableError, match=TOLD):
        workers.done(pool, end_slowly)
    assert (tmp_path / "written").exists()


@pytest.mark.parametrize("name", [".env", "prefect.toml", "pyproject.toml"])
def test_a_spawned_worker_takes_no_settings_from_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a schedule it is the schedule's, and Prefect's logging settings name code that is called at once."""
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
    with workers.workers(1) as pool:
        assert workers.done(pool, os.getcwd) == str(tmp_path)
    assert not (tmp_path / "canary").exists()
