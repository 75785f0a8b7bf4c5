"""Interruption of training in all threads of this process.

Python delivers a signal only to the main thread. The other threads check regularly whether a stop was requested. This
state is global to the process, because a signal handler cannot receive arguments from kdflow.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNAL = signal.SIGUSR1  # the signal that another thread of this process sends to the main thread


class _Stop:
    """The state of a requested stop.

    The state is not a `threading.Event`, because setting the event in a signal handler could deadlock: the interrupted
    code may hold the lock of the event.
    """

    requested = False
    seen = False  # whether `check` has raised KeyboardInterrupt since the request
    deferring = False  # whether the main thread is in a block that must be completed before it is interrupted
    deferred: Callable[[], object] | None = None  # function that interrupts the main thread when this block ends
    reason = ""  # the reason that `interrupt_main` was given


def stop() -> None:
    """Request that all training in this process ends before its next step."""
    _Stop.requested = True


def interrupt() -> None:
    """Request a stop of all training, and raise KeyboardInterrupt. A `deferred` block delays the error until its end.

    Call this function from a signal handler, which runs in the main thread.
    """
    stop()
    _now_or_deferred(_raise_interrupt)


@contextmanager
def deferrable_sigterm() -> Iterator[None]:
    """Let `deferred` blocks inside this block delay the current SIGTERM handler.

    While a flow runs, Prefect handles SIGTERM by raising an error, which could be raised in the middle of a write. If
    this block does not run in the main thread, or if no Python function handles SIGTERM, do nothing.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: _now_or_deferred(lambda: handler(number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _now_or_deferred(interrupt_main_thread: Callable[[], object]) -> None:
    if _Stop.deferring:
        _Stop.deferred = interrupt_main_thread
    else:
        interrupt_main_thread()


def _raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Let other threads interrupt the main thread while the block runs. Outside the main thread, this has no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(SIGNAL, _handle)
    try:
        yield
    finally:
        signal.signal(SIGNAL, previous)


def interrupt_main(reason: str) -> None:
    """Request a stop of all training, and raise KeyboardInterrupt in the main thread.

    Call this function from another thread. If the main thread is not in an `interruptible` block, only training stops.

    Args:
        reason: Reason for the stop. The function `reason` returns this text until the stop is cleared.
    """
    _Stop.reason = reason
    stop()
    main = threading.main_thread().ident
    if main and signal.getsignal(SIGNAL) is _handle:
        signal.pthread_kill(main, SIGNAL)


def reason() -> str:
    """Return the reason that the last call of `interrupt_main` gave. If there was no call, return an empty string."""
    return _Stop.reason


@contextmanager
def deferred() -> Iterator[None]:
    """Delay an interruption of the main thread until the block ends."""
    if _Stop.deferring or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Stop.deferring = True
    try:
        yield
    finally:
        _Stop.deferring = False
        deferred_interrupt, _Stop.deferred = _Stop.deferred, None
        if deferred_interrupt:
            deferred_interrupt()


def reset() -> None:
    """Clear a requested stop after all work has ended, because the same process may run another flow."""
    _Stop.requested = _Stop.seen = False
    _Stop.reason = ""


def check() -> None:
    """Raise KeyboardInterrupt if a stop was requested. Training calls this function before every step."""
    if _Stop.requested:
        _Stop.seen = True
        raise KeyboardInterrupt


def seen() -> bool:
    """Return whether `check` has raised KeyboardInterrupt since the stop was requested."""
    return _Stop.seen


def _handle(_number: int, _frame: FrameType | None) -> None:
    interrupt()
