"""An interruption ends training at once, but not in the middle of a write to the store."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tasks.execution import interruption


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """Handle SIGINT as a command does."""
    before = signal.signal(signal.SIGINT, lambda *_: interruption.interrupt())
    yield
    signal.signal(signal.SIGINT, before)
    interruption.reset()


def test_an_interruption_is_raised_at_once_and_stops_training() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interruption.check()


def test_an_interruption_waits_for_the_end_of_a_deferred_block() -> None:
    """An interruption in a database transaction used to leave the file locked, and the command hung for a minute."""
    reached = []

    def write() -> None:
        with interruption.deferred():
            with interruption.deferred():
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("inner")
            reached.append("outer")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert reached == ["inner", "outer"]
    with interruption.deferred():  # the interruption is raised once
        reached.append("next")
    assert reached[-1] == "next"


class TerminatedError(Exception):
    pass


def test_sigterm_waits_for_the_end_of_a_deferred_block() -> None:
    """While a flow runs, Prefect raises an error at SIGTERM. A scheduled run used to leave its MLflow run RUNNING."""

    def terminate(*_: object) -> None:
        raise TerminatedError

    reached = []

    def write() -> None:
        with interruption.deferrable_sigterm():
            with interruption.deferred():
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append("written")
            reached.append("after the block")

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(TerminatedError):
            write()
        assert reached == ["written"]
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_python_handler_sigterm_keeps_its_effect() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interruption.deferrable_sigterm():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_interrupts_the_main_thread_with_a_reason() -> None:
    thread = threading.Thread(target=interruption.interrupt_main, args=["no longer needed"])
    with pytest.raises(KeyboardInterrupt), interruption.interruptible():  # noqa: PT012
        thread.start()
        time.sleep(60)
    thread.join()
    assert interruption.reason() == "no longer needed"


def test_outside_of_the_block_another_thread_only_stops_training() -> None:
    interruption.interrupt_main("too late")
    with pytest.raises(KeyboardInterrupt):
        interruption.check()
