"""A stop that reaches training in threads: Python delivers a signal to the main thread alone."""

import threading

_stopping = threading.Event()


def stop() -> None:
    """Ask every training in this process to end at its next step."""
    _stopping.set()


def reset() -> None:
    """Forget an earlier stop, before a new flow run in the same process."""
    _stopping.clear()


def check() -> None:
    """Raise KeyboardInterrupt where a stop was asked for; called before every training step."""
    if _stopping.is_set():
        raise KeyboardInterrupt
