"""Concurrent training of the students of a comparison, in this process and in worker processes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from prefect.logging import get_run_logger

from kdmodels.device import find_device
from kdmodels.errors import redacted
from kdmodels.experiment import Experiment
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.execution import interruption
from tasks.execution.runners import Running, WorkerSlot, begin_all, run_all, runner_of, worker_slots, workers_for
from tasks.execution.workers import begin_workers, worker_pool
from tasks.planning.keys import threads
from tasks.references import KnowledgeReference, Options, Plan, StudentReference
from tasks.results import reference
from tasks.student_job import StudentJob
from tasks.train_student import prepare, train_student
from tasks.ui import summaries
from tasks.ui.progress import progress_artifacts

Slots = Sequence[WorkerSlot[StudentReference]]
RunningStudents = Running[StudentReference]


@contextmanager
def student_workers(experiment: Experiment, options: Options) -> Iterator[ProcessPoolExecutor | None]:
    """Provide the worker processes that the experiment requires, or None if it requires none.

    If the experiment is new or the option `fresh` is set, most students must be trained. In this case the workers are
    prepared before the plan is known, while the data are loaded.
    """
    students = len(experiment.variants)
    with worker_pool(workers_for(runner_of(experiment), students), imports=prepare.__module__) as pool:
        if options.fresh or tracking.is_new(experiment.name):
            _prepare_workers(pool, experiment, students)
        yield pool


@contextmanager
def student_slots(pool: ProcessPoolExecutor | None, folds: Sequence[Fold]) -> Iterator[Slots]:
    """Provide the slots in which students are trained concurrently, and start to prepare the workers of the slots.

    A slot trains one student at a time, in this process or in a worker process.
    """
    experiment, students = folds[0].experiment, most_trained(fold.plan for fold in folds)
    _prepare_workers(pool, experiment, students)
    with worker_slots(train_student, runner_of(experiment), students, pool, cores=threads(experiment)) as slots:
        yield slots


def most_trained(plans: Iterable[Plan]) -> int:
    """Return the largest number of students that one fold trains. The folds run one after the other."""
    return max(map(_count_trained, plans))


def begin_beside_teacher(slots: Slots, fold: Fold) -> RunningStudents:
    """Start students that need no teacher. Workers train them while this process trains the teacher.

    Each worker process gets at most an equal share of the students to be trained, so that some remain for this process.
    Each worker of a cluster gets one student. If the teacher is reused, no student is started. On a GPU of this
    machine, no student is started either, because the GPU may lack the memory for the teacher and the students.

    Returns:
        The started students, for `train_students`.
    """
    in_workers = [slot for slot in slots if slot.workers]
    if not in_workers or fold.plan.teacher.action == "reuse" or find_device(fold.experiment.device).type != "cpu":
        return {}
    ready = [
        (name, job) for name, job in _jobs(fold).items() if job.step.action != "reuse" and not job.variant.needs_teacher
    ]
    share = _count_trained(fold.plan) // len(slots) if len(in_workers) < len(slots) else 1
    return begin_all(in_workers[0], dict(ready[: share * len(in_workers)]))


def train_students(
    slots: Slots, fold: Fold, knowledge: KnowledgeReference, begun: RunningStudents
) -> list[StudentReference]:
    """Run one task per variant. A failed student does not affect the others.

    Args:
        knowledge: The reference to the teacher's outputs, for the distilled students.
        begun: The students that `begin_beside_teacher` has started.

    Returns:
        One row per variant, in the order of the experiment file. Failed students have rows too.

    Raises:
        Exception: the store, its server or a disk failed. The error of the first affected student is raised, because
            the other students would fail too.
    """
    jobs, begun_names = _jobs(fold), {name for name, _ in begun.values()}
    waiting = {
        name: job.model_copy(update={"knowledge": knowledge}) if job.variant.needs_teacher else job
        for name, job in jobs.items()
        if name not in begun_names
    }
    results: dict[str, object] = {}
    with progress_artifacts(fold):
        for name, future in run_all(slots, waiting, begun):
            results[name] = future.result(raise_on_failure=False)
            if tracking.outage(results[name]):
                future.result()
            _log_result(jobs[name].step.name, results[name])
    interruption.check()
    return _rows([(jobs[variant.name], results[variant.name]) for variant in fold.experiment.variants], fold.parent)


def _log_result(name: str, result: object) -> None:
    """Write one line about a student to the log of the flow. The result of a failed student is an error."""
    if isinstance(result, StudentReference):
        get_run_logger().info(f"{name}: {summaries.student(result)}")
    else:
        get_run_logger().error(f"{name}: failed: {redacted(str(result))}")


def _prepare_workers(pool: ProcessPoolExecutor | None, experiment: Experiment, students: int) -> None:
    """Start to prepare enough workers for this number of students. Return before the workers are ready.

    If there is no pool, do nothing.
    """
    if pool:
        begin_workers(pool, workers_for(runner_of(experiment), students), prepare)


def _count_trained(plan: Plan) -> int:
    """Return the number of students of one fold that are trained, i.e. not reused."""
    return sum(run.action != "reuse" for run in plan.students)


def _jobs(fold: Fold) -> Mapping[str, StudentJob]:
    """Return the job of each student by the name of its variant, in the order in which the jobs start.

    Students that compare features with the teacher come first, because their training takes longest. If a long job
    started last, it would run alone at the end.

    The jobs name the device and the number of threads that the plan assumes, because the machine of a cluster's worker
    may have another default. `train_students` adds the reference to the teacher's outputs.
    """
    assumed = {"threads": threads(fold.experiment), "device": find_device(fold.experiment.device).type}
    experiment = fold.experiment.model_copy(update=assumed)
    runs = sorted(
        zip(fold.experiment.variants, fold.plan.students, strict=True), key=lambda run: -len(run[0].teacher_places)
    )
    views = fold.plan.knowledge.count
    return {
        variant.name: StudentJob(
            variant=variant, step=step, experiment=experiment, data=fold.data, views=views, parent=fold.parent
        )
        for variant, step in runs
    }


def _rows(results: Iterable[tuple[StudentJob, object]], parent: str) -> list[StudentReference]:
    """Return the leaderboard rows of all students, in the order of `results`.

    Args:
        results: Pairs of a job and its result. The result of a failed student is an error.
        parent: The id of the comparison's run.
    """
    run_ids = {run.name: run.run_id for run in tracking.children(parent) if run.kind == "student"}
    return [
        result if isinstance(result, StudentReference) else _failed(job, result, run_ids.get(job.step.name))
        for job, result in results
    ]


def _failed(job: StudentJob, error: object, run_id: str | None) -> StudentReference:
    """Return the leaderboard row of a failed student. `run_id` is None if the task failed before it started a run."""
    if run_id:
        return reference(run_id, reused=False)
    return StudentReference(
        variant=job.variant.name,
        control=job.control,
        run_id=None,
        status=RunStatus.FAILED,
        reused=False,
        seeds=[],
        metrics={},
        per_seed={},
        parameters=None,
        error=str(error),
    )
