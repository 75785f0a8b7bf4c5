"""Other processes of this machine, in which students are trained.

Each is forked from this one, which has imported all that students need, and is ready at once. That is safe before this
process has a second thread; where it has one, as in a scheduled run, a worker is spawned and imports for itself.

Prefect knows nothing of them. Its task runs in a thread of this process and waits for what a worker does, and the
worker needs no server of Prefect's.
"""

import gc
import importlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir, contextmanager
from contextvars import ContextVar
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import ParamSpec, TypeVar

from kdmodels.errors import UnavailableError
from kdmodels.garbage import uncollected
from tasks import interruption

P = ParamSpec("P")
R = TypeVar("R")

GRACE_SECONDS = 1  # for training to come to its next step
STOP_SECONDS = 8  # for interrupted work to close its records
TICK_SECONDS = 0.05  # between two looks whether it has
PARENT_SECONDS = 0.5  # between two looks whether the parent is there
LAST = -100  # of multiprocessing's priorities at exit, after its queues' own
SIGNALS = {signal.SIGINT, signal.SIGTERM}
ENDED = 128 + signal.SIGTERM  # a worker's exit status

_forked: ContextVar[ProcessPoolExecutor | None] = ContextVar("_forked", default=None)


@contextmanager
def forked(count: int, work: Callable[[], object]) -> Iterator[bool]:
    """If this process may be forked, fork that many workers, which `workers` gives in the block; they do the work.

    That is before anybody knows how many are needed: afterwards there are threads. Yields whether they are forked.
    """
    if not count or sys.platform != "linux" or threading.active_count() > 1:
        yield False
        return
    with _pool(count, "fork") as pool:
        begin_workers(pool, count, work)  # the first call forks all
        token = _forked.set(pool)
        try:
            yield True
        finally:
            _forked.reset(token)


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor | None]:
    """At most that many processes, those that `forked` has begun or new ones, that begin when there is work for them.

    They end with the block in which they began; where it fails they are interrupted.
    """
    if not count:
        yield None
    elif pool := _forked.get():
        yield pool
    else:
        with _pool(count, "spawn") as pool:
            yield pool


def begin_workers(pool: ProcessPoolExecutor, count: int, work: Callable[[], object]) -> None:
    """Let so many workers begin, with this to do; one that is ready early may do it for another too.

    Raises:
        UnavailableError: one that had begun was killed or stopped.
    """
    # Ctrl-C reaches the whole terminal: one that has not come so far as to ignore it would show a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # in here, for what came before may be raised now
        with _told_if_gone():
            for _ in range(count):
                pool.submit(_send, work)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def done(pool: ProcessPoolExecutor | None, work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """What the work returns, or raises, in one of the pool's processes or, without a pool, in this one.

    A worker does it with the environment's variables that this process has now.

    Raises:
        UnavailableError: the worker was killed or stopped.
    """
    if pool is None:
        return work(*args, **named)
    with _told_if_gone():
        return pool.submit(_do, dict(os.environ), partial(work, *args, **named)).result()


_GONE = (
    "a process that trains students was killed, stopped or ran out of memory; what is finished is kept, and the same "
    "command goes on with the rest"
)


@contextmanager
def _told_if_gone() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise UnavailableError(_GONE) from error


@contextmanager
def stopped_on_failure() -> Iterator[None]:
    """Where the block fails, training ends in this process and in all workers, and these are gone."""
    try:
        yield
    except BaseException:
        interruption.stop()
        _stop_workers()
        raise


@contextmanager
def _pool(count: int, how: str) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(how)
    with ProcessPoolExecutor(count, context, initializer=_prepare) as pool:
        try:
            yield pool
        except BaseException:
            _stop_workers()
            raise


def _stop_workers() -> None:
    """Interrupt what workers do, drop what waits for them, and return when they are gone.

    A training ends at its next step; other work sees SystemExit.
    """
    children = multiprocessing.active_children()
    for worker in children:
        worker.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    alive = {worker.sentinel for worker in children}
    while alive and time.monotonic() < deadline:
        alive.difference_update(multiprocessing.connection.wait(alive, deadline - time.monotonic()))
    for worker in children:
        if worker.sentinel in alive:
            worker.kill()


def _prepare() -> None:
    multiprocessing.util.Finalize(None, _leave_at_once, exitpriority=LAST)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides what ends
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGALRM, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    interruption.reset()  # a stop is the parent's to pass on
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # Prefect takes settings from the working folder, some of which name code. A schedule does not allow that code.
    with uncollected(), chdir(os.sep):
        importlib.import_module("tasks.student")  # which imports all that students need
        gc.freeze()  # nothing of it is ever garbage


class _Work:
    """What a worker does now, since when (monotonic) it is asked to end, and whether by an exception."""

    running = False
    asked: float | None = None
    raised = False


def _do(environment: dict[str, str], work: Callable[[], R]) -> R:
    os.environ.update(environment)
    _Work.running = True
    try:
        return _send(work)
    finally:
        _Work.running = False
        if _Work.asked:  # whatever became of the work: the pool tells that the worker is gone
            os._exit(ENDED)


def _send(work: Callable[[], R]) -> R:
    """What the work returns; an error such that the parent can read it, or else the pool would break."""
    try:
        return work()
    except (KeyboardInterrupt, SystemExit) as stopped:  # would be taken for the parent's own
        raise UnavailableError(_GONE) from stopped
    except Exception as error:
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


def _leave(*_: object) -> None:
    """Ask the running work to end, let it close its records, and exit when it has, or when it takes too long.

    Training ends by itself at its next step; what does not gets one exception after a second, since an exception from
    a signal handler may come at a bad moment. What is raised here may be lost, so the signal comes again by a timer.
    """
    now = time.monotonic()
    _Work.asked = _Work.asked or now
    if not _Work.running or now > _Work.asked + STOP_SECONDS:
        os._exit(ENDED)
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS)
    interruption.stop()
    if now > _Work.asked + GRACE_SECONDS and not (_Work.raised or interruption.seen()):
        _Work.raised = True
        raise SystemExit(ENDED)


def _leave_at_once() -> None:
    """When the pool is done with it; else the interpreter takes 3 s to take down torch's modules."""
    if sys.exc_info()[0] is None:  # else multiprocessing has something to tell
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _leave_with_parent() -> None:
    """Not by `multiprocessing.parent_process()`: of a forked one the younger workers hold what would tell."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while os.getppid() == parent.pid:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(ENDED)
