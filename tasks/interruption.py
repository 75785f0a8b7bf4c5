"""A stop that reaches training in threads: Python delivers a signal to the main thread alone."""


class _Stop:
    """No `threading.Event`, whose lock a signal's handler may find held by what it interrupted, for ever."""

    asked = False
    seen = False


def stop() -> None:
    """Ask every training in this process to end at its next step."""
    _Stop.asked = True


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
