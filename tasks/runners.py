"""Where the students of one run are trained: in threads or in processes of this machine."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from kdmodels.experiment import Runner
from tasks import interruption
from tasks.workers import stopped_on_failure

THREADS = 1  # torch already uses every core for one student
PROCESSES = 2  # this one and another


@dataclass(frozen=True, eq=False)  # Prefect's runners are equal where their sizes are
class Place:
    """Where tasks run: in threads of this process, which do the work or have it done in the pool's processes."""

    threads: ThreadPoolTaskRunner[Any]
    pool: ProcessPoolExecutor | None

    def begin(self, task: Task[..., Any], call: dict[str, Any]) -> PrefectFuture[Any]:
        """Run a task with these parameters and the pool; what finds no thread free waits."""
        return self.threads.submit(task, call | {"pool": self.pool})


Calls = Mapping[str, dict[str, Any]]  # a task's parameters, by a name that its result is known by
Running = dict[PrefectFuture[Any], tuple[str, Place]]  # the name of the call, and where it runs


@contextmanager
def places(runner: Runner, tasks: int, pool: ProcessPoolExecutor | None) -> Iterator[list[Place]]:
    """Where that many tasks run: a place for each that runs at once.

    Of processes the first is this one, which has imported everything already; the others are the pool's. Where the
    block fails, what runs is interrupted, and what waits dropped.
    """
    there = workers_for(runner, tasks) if pool else 0
    here = at_once(runner, tasks) - there
    threads, waiting = _threads(here), _threads(max(1, there))
    with threads, waiting, stopped_on_failure():
        yield [Place(threads, None)] * here + [Place(waiting, pool)] * there


def _threads(number: int) -> ThreadPoolTaskRunner[Any]:
    return ThreadPoolTaskRunner(number)


def workers_for(runner: Runner, tasks: int) -> int:
    """How many processes besides this one so many tasks need."""
    return at_once(runner, tasks) - 1 if runner.kind == "process" else 0


def at_once(runner: Runner, tasks: int) -> int:
    """How many of that many tasks run at once. This is the one place where a runner is chosen."""
    return max(1, min(runner.workers or (PROCESSES if runner.kind == "process" else THREADS), tasks))


def begin(place: Place, task: Task[..., Any], calls: Calls) -> Running:
    """Begin a task with each of these parameters in one place."""
    return {place.begin(task, call): (name, place) for name, call in calls.items()}


def run_all(
    where: Sequence[Place], task: Task[..., Any], calls: Calls, begun: Running
) -> Iterator[tuple[str, PrefectFuture[Any]]]:
    """Run a task with each of these parameters, begun in that order; the calls' names and futures, as they end.

    Args:
        begun: what runs or waits in some of the places already; it is among what is yielded.
    """
    waiting, running = deque(calls.items()), dict(begun)
    while waiting or running:
        interruption.check()
        free = list(where)
        for _, place in running.values():
            if place in free:
                free.remove(place)
        for place in free[: len(waiting)]:
            name, call = waiting.popleft()
            running[place.begin(task, call)] = name, place
        ended = next(as_completed(list(running)))
        yield running.pop(ended)[0], ended
