"""An interruption ends training at once, but not in the middle of a write to the store."""

import os
import signal
from collections.abc import Iterator

import pytest

from tasks import interruption


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """SIGINT interrupts as it does in a command."""
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
    """Raised inside a database's transaction, it left the file locked: the command then hung for a minute."""
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
    with interruption.deferred():  # it is raised once
        reached.append("next")
    assert reached[-1] == "next"
