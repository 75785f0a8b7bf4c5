"""Worker processes of this machine, in which students are trained.

Workers are forked from this process if possible. This process has already imported everything that students need, so
forked workers are ready at once. Forking is safe only before this process has a second thread. The process of a
scheduled run has other threads, so its workers are spawned and import everything themselves.

Prefect does not know about the workers. A Prefect task runs in a thread of this process and waits for a worker. The
worker needs no Prefect server.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, TypeVar

from kdmodels.errors import UnavailableError
from tasks.execution import interruption, worker_process
from tasks.execution.worker_process import SIGNALS, STOP_SECONDS, WORKER_GONE, ClusterWorker

P = ParamSpec("P")
R = TypeVar("R")

Workers = ProcessPoolExecutor | ClusterWorker
"""The worker processes of this machine, or the worker of a cluster that is running the task."""

# The pool of `forked_workers`. A variable passes the pool to code inside a Prefect flow, because the parameters of a
# flow must be JSON. Only this module uses the variable.
_forked_pool: ContextVar[ProcessPoolExecutor | None] = ContextVar("_forked_pool", default=None)


@contextmanager
def forked_workers(count: int, work: Callable[[], object]) -> Iterator[bool]:
    """Fork workers if it is safe to fork this process. Yield whether the workers were forked.

    Inside the `with` block, `worker_pool` provides the forked workers.

    This process will soon start other threads and can then no longer fork. Therefore the workers are forked before the
    number of necessary workers is known.

    Args:
        count: The maximum number of workers that may be necessary.
        work: The function with which each worker starts.
    """
    if not count or sys.platform != "linux" or threading.active_count() > 1:
        yield False
        return
    with _new_pool(count, "fork", imports=None) as pool:
        begin_workers(pool, count, work)  # the first call forks all workers
        token = _forked_pool.set(pool)
        try:
            yield True
        finally:
            _forked_pool.reset(token)


@contextmanager
def worker_pool(count: int, imports: str | None = None) -> Iterator[ProcessPoolExecutor | None]:
    """Provide at most `count` workers. If `count` is 0, provide None.

    Inside a `forked_workers` block, all forked workers are provided, even if there are more than `count`. Otherwise,
    new workers start when there is work.

    The workers end when the block that created them ends. If the block fails, the workers are interrupted.

    Args:
        imports: Name of a module that a new worker imports when it starts.
    """
    if not count:
        yield None
    elif pool := _forked_pool.get():
        yield pool
    else:
        with _new_pool(count, "spawn", imports) as pool:
            yield pool


def begin_workers(pool: ProcessPoolExecutor, count: int, work: Callable[[], object]) -> None:
    """Start `count` workers and submit the work once per worker. A worker that starts early may run it more than once.

    Raises:
        UnavailableError: a started worker was killed or stopped.
    """
    # Ctrl-C reaches all processes. A worker that does not ignore Ctrl-C yet would print a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # inside `try`, because a pending signal is raised here
        with _report_lost_worker():
            for _ in range(count):
                pool.submit(worker_process.send_result, work)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_in(workers: Workers | None, work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """Run the work in a worker and return its result, or raise its error.

    Without workers, the work runs in this process. A worker gets the current environment variables of the process that
    runs the flow, because workers may start before the addresses and passwords of the servers are known.

    Raises:
        UnavailableError: the worker was killed or stopped.
    """
    if workers is None:
        return work(*args, **named)
    if isinstance(workers, ClusterWorker):  # this process is the worker
        return worker_process.send_result(partial(work, *args, **named))
    with _report_lost_worker():
        return workers.submit(worker_process.run_work, dict(os.environ), partial(work, *args, **named)).result()


@contextmanager
def stop_on_failure() -> Iterator[None]:
    """If the block fails, end training in this process and in all workers. Wait until the workers have ended."""
    try:
        yield
    except BaseException:
        interruption.stop()
        _stop_workers()
        raise


@contextmanager
def _report_lost_worker() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise UnavailableError(WORKER_GONE) from error


@contextmanager
def _new_pool(count: int, method: str, imports: str | None) -> Iterator[ProcessPoolExecutor]:
    context, start = multiprocessing.get_context(method), worker_process.start_worker
    with ProcessPoolExecutor(count, context, initializer=start, initargs=(imports,)) as pool:
        try:
            yield pool
        except BaseException:
            _stop_workers()
            raise


def _stop_workers() -> None:
    """Interrupt all workers, drop waiting work, and return when the workers have ended.

    Training ends before its next step. Other work gets a SystemExit. An idle worker ends at once.
    """
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    alive = {worker.sentinel for worker in workers}
    while alive and time.monotonic() < deadline:
        alive.difference_update(multiprocessing.connection.wait(alive, deadline - time.monotonic()))
    for worker in workers:
        if worker.sentinel in alive:
            worker.kill()
