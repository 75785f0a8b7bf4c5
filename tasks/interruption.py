"""A stop that reaches training in threads: Python delivers a signal to the main thread alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Stop:
    """No `threading.Event`, whose lock a signal's handler may find held by what it interrupted, for ever."""

    asked = False
    seen = False
    deferring = False  # the main thread is in a block that must not be left half-way
    deferred = False  # a stop came meanwhile


def stop() -> None:
    """Ask every training in this process to end at its next step."""
    _Stop.asked = True


def interrupt() -> None:
    """Stop, and raise KeyboardInterrupt in the main thread: now, or at the end of its `deferred` block.

    For a signal's handler, which runs in the main thread.
    """
    stop()
    if _Stop.deferring:
        _Stop.deferred = True
    else:
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Let an interruption of the main thread wait until the block ends."""
    if _Stop.deferring or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Stop.deferring = True
    try:
        yield
    finally:
        _Stop.deferring = False
        if _Stop.deferred:
            _Stop.deferred = False
            raise KeyboardInterrupt


def reset() -> None:
    """Forget a stop, after what it has ended: there may be another flow run in the same process."""
    _Stop.asked = _Stop.seen = False


def check() -> None:
    """Raise KeyboardInterrupt where a stop was asked for; called before every training step."""
    if _Stop.asked:
        _Stop.seen = True
        raise KeyboardInterrupt


def seen() -> bool:
    """Whether something ends because of the stop."""
    return _Stop.seen
