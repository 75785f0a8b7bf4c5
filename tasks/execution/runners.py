"""Slots in which the students of a comparison are trained: threads and processes of this machine, and clusters."""

import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from kdmodels.device import count_gpus, find_device
from kdmodels.experiment import Experiment, Runner
from tasks.execution import interruption
from tasks.execution.clusters import CLUSTERS, cluster, cluster_worker
from tasks.execution.workers import Workers, stop_on_failure
from tasks.planning.keys import threads

R = TypeVar("R")

THREADS = 1  # torch already uses every core for one student
PROCESSES = 2  # 2 concurrent students: one in this process and one in a worker process


@dataclass(frozen=True, eq=False)  # no `__eq__`: Prefect treats two task runners of the same size as equal
class WorkerSlot(Generic[R]):
    """A slot for one running task.

    A thread of this process either runs the task or waits for a worker process that runs it. On a cluster, a worker
    runs the whole task.

    Attributes:
        workers: The workers that do the work of the task. `None` if this process does the work.
    """

    task: Task[..., R]
    tasks: TaskRunner[Any]
    workers: Workers | None

    def begin(self, job: object) -> PrefectFuture[R]:
        """Submit the task for a job, and return its future. If no thread or worker is free, the task is queued."""
        return self.tasks.submit(self.task, {"job": job, "workers": self.workers})


Running = dict[PrefectFuture[R], tuple[str, WorkerSlot[R]]]
"""The name of each submitted job and the slot that it occupies, by the future of the job."""


def runner_of(experiment: Experiment) -> Runner:
    """Return the runner of an experiment, with a kind other than `auto`.

    If the experiment file does not set the kind, the kind depends on the machine. If students are trained on the CPU,
    and there are enough cores for 2 or more students, the kind is `process`. Otherwise, the kind is `thread`. Each
    student needs as many cores as the field `threads` says.

    A cluster on this machine gets as many workers as students fit on its cores. On GPUs, Ray gives each student a GPU
    by default, and gets as many workers as students fit on the GPUs. Dask gets one worker, because it knows no GPUs.

    Raises:
        UserError: this machine does not have the experiment's device.
    """
    runner = experiment.runner
    room = available_cores() // threads(experiment)
    if runner.kind in CLUSTERS:
        gpus = count_gpus(experiment.device)
        share = runner.gpus_per_student or (1 if gpus and runner.kind == "ray" else None)
        on_gpus = gpus * int(1 / share) if share else 1  # the share of a student is a share of one GPU
        workers = runner.workers or (None if runner.address else on_gpus if gpus else max(1, room))
        return runner.model_copy(update={"workers": workers, "gpus_per_student": share})
    if runner.kind != "auto":
        return runner
    # The search for a GPU initialises CUDA, which does not survive a fork. Therefore search only if necessary.
    on_cpu = experiment.device == "cpu" or (room > 1 and find_device(experiment.device).type == "cpu")
    if room < 2 or not on_cpu:
        return Runner(kind="thread", workers=runner.workers)
    return Runner(kind="process", workers=min(room, runner.workers or room))


def available_cores() -> int:
    """Return the number of cores that this process may use. A job scheduler may allow only some cores."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def worker_slots(
    task: Task[..., R], runner: Runner, count: int, pool: ProcessPoolExecutor | None, *, cores: int = 1
) -> Iterator[list[WorkerSlot[R]]]:
    """Provide slots for a task that runs `count` times in total: one slot for each concurrent run.

    The slots of this process come first, because this process has already imported everything. The slots of the worker
    pool follow. A cluster has all slots. If the block fails, running tasks are interrupted and waiting tasks are
    dropped.

    Args:
        cores: The number of cores that each run needs. An existing cluster reserves them.
    """
    concurrent = max_concurrent(runner, count)
    if runner.kind in CLUSTERS and count:
        with cluster(runner, concurrent, cores) as tasks, stop_on_failure():
            yield [WorkerSlot(task, tasks, cluster_worker())] * concurrent
        return
    in_pool = workers_for(runner, count) if pool else 0
    in_process = concurrent - in_pool
    local: ThreadPoolTaskRunner[R] = ThreadPoolTaskRunner(in_process)
    waiting: ThreadPoolTaskRunner[R] = ThreadPoolTaskRunner(max(1, in_pool))
    with local, waiting, stop_on_failure():
        yield [WorkerSlot(task, local, None)] * in_process + [WorkerSlot(task, waiting, pool)] * in_pool


def workers_for(runner: Runner, tasks: int) -> int:
    """Return the number of worker processes for this number of tasks. This process runs one of the tasks itself."""
    return max_concurrent(runner, tasks) - 1 if runner.kind == "process" else 0


def max_concurrent(runner: Runner, tasks: int) -> int:
    """Return the maximum number of concurrent tasks. The default depends on the kind of the runner.

    A cluster with an address gets all tasks by default, and decides itself how many of them run.
    """
    default = {"process": PROCESSES, "thread": THREADS}.get(runner.kind, tasks)
    return max(1, min(runner.workers or default, tasks))


def begin_all(slot: WorkerSlot[R], jobs: Mapping[str, object]) -> Running[R]:
    """Submit all jobs to one slot.

    Args:
        jobs: The jobs by name.
    """
    return {slot.begin(job): (name, slot) for name, job in jobs.items()}


def run_all(
    slots: Sequence[WorkerSlot[R]], jobs: Mapping[str, object], begun: Running[R]
) -> Iterator[tuple[str, PrefectFuture[R]]]:
    """Start each job as soon as a slot is free. Yield the name and the future of each job when the job ends.

    Args:
        jobs: The jobs by name, in the order in which they start.
        begun: Jobs that have already been submitted to slots. They are also yielded when they end.
    """
    waiting, running = deque(jobs.items()), dict(begun)
    while waiting or running:
        interruption.check()
        free = list(slots)
        for _, slot in running.values():
            if slot in free:
                free.remove(slot)
        for slot in free[: len(waiting)]:
            name, job = waiting.popleft()
            running[slot.begin(job)] = name, slot
        ended = next(as_completed(list(running)))
        yield running.pop(ended)[0], ended
