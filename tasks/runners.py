"""Where the students of one run are trained: in threads or in processes of this machine.

A worker process inherits the environment, so PREFECT_API_URL and MLFLOW_TRACKING_URI must be set before the flow
starts. Left alone, Prefect's pool waits on an interruption until its workers have done all that was queued, and a
parent that is killed leaves them running for ever; hence what `_prepare_worker` and `_stop_workers` do.
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
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from math import inf
from typing import Any
from uuid import UUID

from prefect import Task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from kdmodels.errors import UnavailableError
from kdmodels.experiment import Runner
from kdmodels.garbage import uncollected
from tasks import interruption

THREADS = 1  # torch already uses every core for one student
PROCESSES = 2  # this one and another, which costs some 6 s of imports and 0.5 GB before it trains anything
GRACE_SECONDS = 1  # for training to come to its next step
STOP_SECONDS = 8  # for an interrupted task to close its records
TICK_SECONDS = 0.05  # shorter than Prefect takes to start a task
LAST = -100  # of multiprocessing's priorities at exit, after its queues' own

Calls = Mapping[str, dict[str, Any]]  # a task's parameters, by a name that its result is known by
Running = dict[PrefectFuture[Any], tuple[str, TaskRunner[Any]]]  # the name of the call, and where it runs


@contextmanager
def workers(runner: Runner, tasks: int) -> Iterator[list[TaskRunner[Any]]]:
    """The places in processes other than this one, for at most that many tasks; none where the runner is of threads.

    A process begins with its first task, and all end with the block. Where the block fails they are interrupted.
    """
    count = _count(runner, tasks) - 1 if runner.kind == "process" else 0
    if not count:
        yield []
        return
    with ProcessPoolTaskRunner(count, initializer=_prepare_worker) as pool:
        try:
            with _stopped_on_failure():
                yield [pool] * count
        except BaseException:
            # A worker that was killed while it sent a message holds the lock of Prefect's queue of messages, for which
            # Python would wait at exit for ever.
            if queue := getattr(pool, "_subprocess_message_queue", None):
                queue.cancel_join_thread()
            raise


@contextmanager
def places(runner: Runner, tasks: int, elsewhere: Sequence[TaskRunner[Any]]) -> Iterator[list[TaskRunner[Any]]]:
    """Where that many tasks run: a Prefect task runner for each that runs at once.

    Of processes the first is this one, which has imported everything already; the others are `workers`. Where the
    block fails, what runs is interrupted, and what waits dropped.

    Raises:
        UnavailableError: a worker has died.
    """
    count = _count(runner, tasks)
    here = 1 if runner.kind == "process" else count
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(here)
    with threads, _stopped_on_failure():
        try:
            yield [threads] * here + [*elsewhere[: count - here]]
        except BrokenProcessPool as error:
            raise UnavailableError(
                "a process that trained students was killed or ran out of memory; what is finished is kept, and the "
                "same command goes on with the rest"
            ) from error


def is_elsewhere(place: TaskRunner[Any]) -> bool:
    """Whether its tasks run in another process."""
    return not isinstance(place, ThreadPoolTaskRunner)


def begin(place: TaskRunner[Any], task: Task[..., Any], calls: Calls) -> Running:
    """Run a task with each of these parameters in worker processes; what finds none free waits."""
    return {place.submit(task, call): (name, place) for name, call in calls.items()}


def run_all(
    where: Sequence[TaskRunner[Any]], task: Task[..., Any], calls: Calls, begun: Running
) -> Iterator[tuple[str, PrefectFuture[Any]]]:
    """Run a task with each of these parameters, begun in that order; the calls' names and futures, as they end.

    Args:
        begun: what runs or waits in some of the places already; it is among what is yielded.
    """
    waiting, running = deque(calls.items()), dict(begun)
    while waiting or running:
        free = list(where)
        for _, place in running.values():
            if place in free:
                free.remove(place)
        for place in free[: len(waiting)]:
            name, call = waiting.popleft()
            running[place.submit(task, call)] = name, place
        ended = next(as_completed(list(running)))
        yield running.pop(ended)[0], ended


def _count(runner: Runner, tasks: int) -> int:
    """How many of that many tasks run at once. This is the one place where a runner is chosen."""
    return max(1, min(runner.workers or (PROCESSES if runner.kind == "process" else THREADS), tasks))


@contextmanager
def _stopped_on_failure() -> Iterator[None]:
    try:
        yield
    except BaseException:
        interruption.stop()
        _stop_workers()
        raise


def _stop_workers() -> None:
    """Interrupt the tasks that run in worker processes, drop those that wait, and return when the processes are gone.

    Since Prefect's next step is to wait for them. A training ends at its next step; another task sees SystemExit.
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


def _prepare_worker() -> None:
    multiprocessing.util.Finalize(None, _leave_at_once, exitpriority=LAST)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides what ends
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGALRM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with uncollected():
        importlib.import_module("tasks.student")  # which imports all that students need
        gc.freeze()  # nothing of it is ever garbage


_asked: dict[UUID, float] = {}


def _leave(*_: object) -> None:
    """Ask the running task to end, let it close its records, and exit when it has, before the next one starts.

    Training ends by itself at its next step; another task gets one exception after a second, since an exception from a
    signal handler may come at a bad moment. The pool's loop survives whatever a task raises, so the signal comes again
    by a timer until the process is between two tasks, where Prefect's contexts are empty.
    """
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS)
    interruption.stop()
    task = TaskRunContext.get()
    if task is not None:
        asked = _asked.setdefault(task.task_run.id, time.monotonic())
        if asked + GRACE_SECONDS < time.monotonic():
            _asked[task.task_run.id] = inf
            raise SystemExit(143)
    elif FlowRunContext.get() is None:
        os._exit(143)


def _leave_at_once() -> None:
    """When the pool is done with it; else the interpreter takes 3 s to take down torch's modules."""
    if sys.exc_info()[0] is None:  # else multiprocessing has something to tell
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(143)
