"""How work in a worker process ends, and which errors it sends to its parent."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from kdmodels.errors import UnavailableError, UserError
from tasks.execution import interruption, worker_process
from tasks.execution.worker_process import GRACE_SECONDS, RunningWork, send_result


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of the timers that would repeat the signal."""
    seconds: list[float] = []
    monkeypatch.setattr(worker_process.signal, "setitimer", lambda _, interval: seconds.append(interval))
    yield seconds
    interruption.reset()


def test_work_is_asked_first_and_gets_one_exception_later(timers: list[float]) -> None:
    work = RunningWork()
    work.end(signal.SIGTERM, None)
    work.requested = time.monotonic() - GRACE_SECONDS - 0.1
    with pytest.raises(SystemExit):
        work.end(signal.SIGALRM, None)
    work.end(signal.SIGALRM, None)
    assert timers == [worker_process.TICK_SECONDS] * 3


def test_training_that_is_already_ending_gets_no_exception(timers: list[float]) -> None:
    work = RunningWork()
    work.end(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        interruption.check()  # as training does before each step
    assert work.requested is not None
    work.requested -= GRACE_SECONDS + 0.1
    work.end(signal.SIGALRM, None)
    assert not work.raised


def test_an_error_that_cannot_be_pickled_is_sent_as_text() -> None:
    def fail() -> None:
        error = ValueError("held")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    with pytest.raises(RuntimeError, match=r"^ValueError: held$"):
        send_result(fail)


def test_a_users_error_is_sent_as_it_is() -> None:
    def fail() -> None:
        raise UserError("a mistake")

    with pytest.raises(UserError, match=r"^a mistake$"):
        send_result(fail)
    assert send_result(lambda: 3) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_a_worker_is_not_taken_for_the_end_of_its_parent(error: type[BaseException]) -> None:
    def end() -> None:
        raise error

    with pytest.raises(UnavailableError, match="a process that trains students was killed"):
        send_result(end)
