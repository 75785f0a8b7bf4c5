"""A stop that reaches training in threads: Python delivers a signal to the main thread alone."""

import multiprocessing
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from kdmodels.errors import UnavailableError

P = ParamSpec("P")
R = TypeVar("R")

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


def told_to_parent(task: Callable[P, R]) -> Callable[P, R]:
    """The task, which in a worker process ends by an ordinary error where it is stopped; elsewhere nothing is changed.

    A KeyboardInterrupt or SystemExit that is sent back ends the thread that receives all results, with a traceback, and
    whoever waits for one waits for ever: `prefect.task_runners._ChainedFuture` takes an Exception alone. One that is
    raised in Prefect's own code, before or after the task's, is not seen here.

    Raises:
        UnavailableError: the task was stopped, and this is a worker process.
    """

    @wraps(task)
    def told(*args: P.args, **named: P.kwargs) -> R:
        try:
            return task(*args, **named)
        except (KeyboardInterrupt, SystemExit) as stopped:
            if multiprocessing.parent_process() is None:
                raise
            raise UnavailableError(
                "a process that trains students was stopped; what is finished is kept, and the same command goes on "
                "with the rest"
            ) from stopped

    return told
