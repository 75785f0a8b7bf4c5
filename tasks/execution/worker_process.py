"""The code that runs inside a worker process. It starts the process, runs its work, and ends it.

A worker process ends when the pool has no more work, when it receives a signal, or when its parent process has ended.
"""

import gc
import importlib
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import TypeVar

from kdmodels.errors import UnavailableError
from kdmodels.garbage_collection import gc_paused
from tasks.execution import interruption

R = TypeVar("R")

GRACE_SECONDS = 1  # time for training to reach its next step
STOP_SECONDS = 8  # time for interrupted work to close its records
TICK_SECONDS = 0.05  # interval of the checks whether interrupted work has ended
PARENT_SECONDS = 0.5  # interval of the checks whether the parent is alive
LAST = -100  # exit priority: run after the finalizers that remove temporary files
SIGNALS = {signal.SIGINT, signal.SIGTERM}
WORKER_GONE = (
    "a process that trains students was killed, stopped or ran out of memory; finished students are kept, and the same "
    "command continues with the rest"
)


def start_worker(imports: str | None) -> None:
    """Prepare this process for work. Set its signal handlers, watch its parent, and import the necessary modules.

    Args:
        imports: Name of a module that a spawned process imports. A forked process has already imported everything.
    """
    multiprocessing.util.Finalize(None, _exit_at_once, exitpriority=LAST)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, but the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    interruption.reset()  # forget a stop that the parent requested before the fork: the parent signals workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Prefect reads settings from the working folder, and some settings name code. A scheduled run must not run that
    # code, so the import runs in another folder.
    if imports:
        with gc_paused(), chdir(os.sep):
            importlib.import_module(imports)
            gc.freeze()  # imported modules are never garbage


class RunningWork:
    """Work that a signal can end. The signal handler is a method of this class, so no global state is needed."""

    def __init__(self) -> None:
        self.requested: float | None = None  # monotonic time of the first request
        self.raised = False

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Request the end of the work. If the work takes too long to close its records, end the process.

        Training ends before its next step. Other work is interrupted by a SystemExit. This exception could be raised in
        the middle of a write. Therefore, it is raised only once, and only if the work has not ended after 1 s. Python
        can lose the exception, so a timer repeats the signal until the process ends.
        """
        now = time.monotonic()
        self.requested = self.requested or now
        if now > self.requested + STOP_SECONDS:
            end_process()
        signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS)
        interruption.stop()
        if now > self.requested + GRACE_SECONDS and not (self.raised or interruption.seen()):
            self.raised = True
            raise SystemExit


def run_work(environment: dict[str, str], work: Callable[[], R]) -> R:
    """Run the work and return its result, or raise its error. If a signal arrives, end the work, then the process.

    Args:
        environment: The current environment variables of the parent process.
    """
    os.environ.update(environment)
    running = RunningWork()
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, running.end)
    try:
        return send_result(work)
    finally:
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        if running.requested:  # end the process even if the work ignored the request, so that the parent notices
            end_process()


@dataclass(frozen=True)
class ClusterWorker:
    """What a worker of a cluster takes over from the process that runs the flow.

    A worker starts in the root folder and imports Prefect there, because Prefect reads settings from the working
    folder, and some settings name code.

    Attributes:
        folder: The working folder, where the modules of the user are and where relative paths start.
        environment: Environment variables with the addresses and passwords of the servers.
    """

    folder: str
    environment: dict[str, str] = field(repr=False)

    def take_over(self) -> None:
        """Change to the working folder, if this machine has it, and set the environment variables."""
        os.environ.update(self.environment)
        if os.path.isdir(self.folder):
            os.chdir(self.folder)


def send_result(work: Callable[[], R]) -> R:
    """Run the work and return its result, or raise an error that the parent can unpickle.

    An error that the parent cannot unpickle would break the pool.
    """
    try:
        return work()
    except (KeyboardInterrupt, SystemExit) as error:  # the parent would treat these as its own interruption
        raise UnavailableError(WORKER_GONE) from error
    except Exception as error:
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


def end_process() -> None:
    """End this process without clean-up, as an unhandled SIGTERM would."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def _exit_at_once() -> None:
    """Exit without unloading modules. Unloading torch in a spawned process would make the parent wait 3 s."""
    if sys.exc_info()[0] is None:  # otherwise multiprocessing still has to report an error
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _end_with_parent() -> None:
    """End this process when its parent has ended, even if the main thread never returns to Python to handle a signal.

    The function looks at the id of the parent process. `multiprocessing.parent_process().sentinel` would not show
    reliably that the parent has ended. The sentinel is a pipe, and a worker that is forked later inherits a copy of the
    parent's end. The pipe therefore stays open.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    while os.getppid() == parent.pid:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
