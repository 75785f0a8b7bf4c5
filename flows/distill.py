"""The main job, in the order of its tasks: data, teacher, knowledge, students, comparison, promotion."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect import flow
from prefect.runtime import deployment

from flows.schedule_records import enter_schedule
from kdmodels import own_code
from kdmodels.device import find_device
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment, Variant
from tasks import interruption, runs, tracking
from tasks.costs import measure_costs
from tasks.data import load, prepare_data
from tasks.folds import joined
from tasks.knowledge import distil_teacher
from tasks.leaderboard import compare_students
from tasks.plan import flatten, make_plan, needs_teacher, sized, threads
from tasks.promotion import promote_student
from tasks.references import (
    DataReference,
    KnowledgeReference,
    Options,
    Outcome,
    Plan,
    StudentReference,
    TeacherReference,
)
from tasks.results import PLAN, reference
from tasks.runners import Place, Running, begin, places, run_all, workers_for
from tasks.steps import PLANNING, alone
from tasks.student import prepare, train_student
from tasks.teacher import join_teachers, train_teacher
from tasks.workers import begin_workers, workers

DEFAULTS = Options()


class StudentsFailedError(Exception):
    """Some students failed; the others are compared, and `outcome` has all of them."""

    def __init__(self, outcome: Outcome) -> None:
        failed = [student for student in outcome.students if student.status != "FINISHED"]
        super().__init__("; ".join(f"{student.variant}: {student.error or student.status}" for student in failed))
        self.outcome = outcome


@flow
def distill(experiment: Experiment, options: Options = DEFAULTS) -> Outcome:
    """Compare the experiment's loss variants and promote the best student.

    Raises:
        StudentsFailedError: at the end, where some students failed.
        UnavailableError: a worker process was killed or stopped.
        UsageError: a deployment's run names code that the deployment does not allow.
        UserError: what a user can mend, or no student at all has finished.
    """
    if deployment.id:  # in Prefect's UI its parameters can be changed: to name code that nobody has allowed
        enter_schedule(deployment.id)
        own_code.require_all_allowed(experiment)
    tracking.configure()
    tracking.end_abandoned(experiment.name)
    runs.use_threads(threads(experiment))
    clock = Clock()
    # `planning`: until the comparison says what the plan takes over, `kd gc` waits.
    with ExitStack() as held, ExitStack() as planning:
        held.callback(interruption.reset)
        interruption.check()  # Ctrl-C before the flow, whose exception Python may have dropped
        pool = held.enter_context(workers(workers_for(experiment.runner, len(experiment.variants))))
        early = options.fresh or tracking.is_new(experiment.name)  # then most will be trained, whatever the plan says
        if early:
            get_ready(pool, experiment, len(experiment.variants))
        code = own_code.named_modules(experiment)
        with clock("data"):
            splits = prepared(experiment, options, prepare_data)
            data = splits[0]
            experiment = sized(experiment, data)
            planning.enter_context(alone(PLANNING))
            plan = whole_plan(experiment, splits, fresh=options.fresh)
        if not early:
            get_ready(pool, experiment, most_trained(plan))
        with (
            comparison(experiment, splits, plan) as parent,
            places(experiment.runner, most_trained(plan), pool) as where,
        ):
            planning.close()
            first, *others = [
                train_fold(experiment, split, part, parent, where, clock)
                for split, part in zip(splits, [plan, *plan.folds], strict=True)
            ]
            with clock("compare"):
                teacher, students = joined([measure_costs(*first), *others], splits)
                leaderboard = compare_students(students, teacher, parent)
            with clock("promote"):
                verdict = promote_student(leaderboard, experiment.promote, data, code=code)
            outcome = Outcome(
                experiment=experiment.name,
                parent_run_id=parent,
                teacher=teacher,
                students=students,
                notes=leaderboard.notes,
                verdict=verdict,
                seconds=clock.seconds,
            )
            if any(student.status != "FINISHED" for student in students):
                raise StudentsFailedError(outcome)
    return outcome


def prepared(experiment: Experiment, options: Options, prepare: Callable[..., DataReference]) -> list[DataReference]:
    """The data, with cross-validation each fold of it."""
    numbers = range(experiment.data.folds or 1)
    splits = [prepare(experiment.data, options.data_dir, options.quiet, number) for number in numbers]
    if len({load(data).split_digests["test"] for data in splits}) > 1:
        source = experiment.data.source
        raise UserError(f"data.source: {source} is not the same each time that it is read; folds need one set of data")
    return splits


def whole_plan(experiment: Experiment, splits: Sequence[DataReference], *, fresh: bool) -> Plan:
    """The plan of the first fold, and in it those of the others."""
    plan, *others = [make_plan(experiment, data, fresh=fresh) for data in splits]
    notes = dict.fromkeys(note for part in (plan, *others) for note in part.notes)
    if others and any(member.checkpoint or member.registry for member in experiment.teacher.members):
        notes["the teacher is not trained for each fold: it may have learnt what its students are validated on"] = None
    return plan.model_copy(update={"folds": others, "notes": list(notes)})


def train_fold(
    experiment: Experiment,
    data: DataReference,
    plan: Plan,
    parent: str,
    where: Sequence[Place],
    clock: "Clock",
) -> tuple[TeacherReference, list[StudentReference]]:
    """Teacher, knowledge and students on one validation split."""
    calls = student_calls(experiment, data, plan, parent)
    with clock("teacher"):
        begun = begin_beside(where, experiment, plan, calls)
        teacher = train_teachers(experiment, data, plan, parent)
    with clock("knowledge"):
        knowledge = distil_teacher(teacher, experiment, data, taught(experiment, plan), plan.knowledge.count)
    with clock("students"):
        return teacher, train_students(where, experiment, plan, calls, begun, knowledge, parent)


def plan_only(experiment: Experiment, options: Options = DEFAULTS) -> Plan:
    """What `distill` would do, and why; nothing is trained or recorded, and no Prefect server is needed."""
    tracking.configure()
    splits = prepared(experiment, options, prepare_data.fn)
    return whole_plan(sized(experiment, splits[0]), splits, fresh=options.fresh)


def train_teachers(experiment: Experiment, data: DataReference, plan: Plan, parent: str) -> TeacherReference:
    """The teacher, or the ensemble, whose members are trained first."""
    if not plan.members or plan.teacher.action == "reuse":
        return train_teacher(experiment.teacher, experiment, data, plan.teacher, parent)
    steps = zip(experiment.teacher.members, plan.members, strict=True)
    members = [train_teacher(member, experiment, data, step, parent) for member, step in steps]
    return join_teachers(experiment, data, plan.teacher, members, parent)


def most_trained(plan: Plan) -> int:
    """How many students are trained, of folds in the one that trains most, since folds come one after the other."""
    return max(map(trained, (plan, *plan.folds)))


def trained(part: Plan) -> int:
    """How many students of one fold are trained."""
    return sum(step.action != "reuse" for step in part.students)


def get_ready(pool: ProcessPoolExecutor | None, experiment: Experiment, tasks: int) -> None:
    """Let the workers that so many tasks need prepare themselves, while something else is done here."""
    if pool:
        begin_workers(pool, workers_for(experiment.runner, tasks), prepare)


def student_calls(experiment: Experiment, data: DataReference, plan: Plan, parent: str) -> dict[str, dict[str, Any]]:
    """By variant, what `train_student` is told, in the order in which they begin; there is no knowledge yet."""
    tasks = sorted(  # those that compare features take longest: begun last, one would end alone
        zip(experiment.variants, plan.students, strict=True), key=lambda task: -len(task[0].teacher_places)
    )
    views = plan.knowledge.count
    common = {"experiment": experiment, "data": data, "knowledge": None, "views": views, "parent": parent}
    return {variant.name: {"variant": variant, "step": step, **common} for variant, step in tasks}


def begin_beside(
    where: Sequence[Place], experiment: Experiment, plan: Plan, calls: dict[str, dict[str, Any]]
) -> Running:
    """Students that need no teacher begin in the other processes, which are idle while it trains in this one.

    No process gets more than its share of all students that are trained, or this one would have nothing left to do.
    On a GPU none begins: its memory may do for the teacher, or for students, and not for both.
    """
    beside = [place for place in where if place.pool]
    if not beside or plan.teacher.action == "reuse" or find_device(experiment.device).type != "cpu":
        return {}
    ready = [
        (name, call)
        for name, call in calls.items()
        if call["step"].action != "reuse" and not needs_teacher(call["variant"])
    ]
    share = trained(plan) // len(where)
    return begin(beside[0], train_student, dict(ready[: share * len(beside)]))


def train_students(
    where: Sequence[Place],
    experiment: Experiment,
    plan: Plan,
    calls: dict[str, dict[str, Any]],
    begun: Running,
    knowledge: KnowledgeReference,
    parent: str,
) -> list[StudentReference]:
    """One task a variant, where the runner says; one that fails neither loses nor stops the others.

    Raises:
        Exception: that of the first which the store, its server or a disk failed; the others would not fare better.
    """
    begun_already = {name for name, _ in begun.values()}
    rest = {
        name: call | {"knowledge": knowledge if needs_teacher(call["variant"]) else None}
        for name, call in calls.items()
        if name not in begun_already
    }
    results: dict[str, Any] = {}
    for name, future in run_all(where, train_student, rest, begun):
        results[name] = future.result(raise_on_failure=False)
        if tracking.outage(results[name]):
            future.result()
    interruption.check()
    failed_runs = {run.name: run.run_id for run in tracking.children(parent) if run.kind == "student"}
    return [
        result
        if isinstance(result := results[variant.name], StudentReference)
        else _failed(variant.name, experiment.control_of(variant).name, result, failed_runs.get(step.name))
        for variant, step in zip(experiment.variants, plan.students, strict=True)
    ]


def _failed(variant: str, control: str, error: object, run_id: str | None) -> StudentReference:
    """What is known of a student whose task raised; `run_id` is None where it failed before its run began."""
    if run_id:
        return reference(run_id, reused=False)
    return StudentReference(
        variant=variant,
        control=control,
        run_id=None,
        status="FAILED",
        reused=False,
        seeds=[],
        metrics={},
        per_seed={},
        parameters=None,
        error=str(error),
    )


def taught(experiment: Experiment, plan: Plan) -> list[Variant]:
    """The variants that will be trained and compare with the teacher."""
    steps = zip(experiment.variants, plan.students, strict=True)
    return [variant for variant, step in steps if step.action != "reuse" and needs_teacher(variant)]


@contextmanager
def comparison(experiment: Experiment, splits: Sequence[DataReference], plan: Plan) -> Iterator[str]:
    """The parent run of one command: it and its children end with the truth, however the block ends."""
    parent = tracking.start(
        experiment.name,
        experiment.name,
        "comparison",
        params=flatten(experiment.model_dump(mode="json", exclude={"variants"})),
        tags={**runs.origin(), "kd.data_dir": splits[0].folder or ""}
        | ({"kd.views": f"{plan.knowledge.action}: {plan.knowledge.reason}"} if plan.taught else {}),
    )
    with tracking.recording(parent):
        try:
            tracking.log_json(parent, "experiment.json", experiment.model_dump(mode="json"))
            tracking.log_json(parent, PLAN, plan.model_dump(mode="json"))
            indices = [load(data).indices for data in splits]
            tracking.log_json(parent, "splits.json", indices if experiment.data.folds else indices[0])
            tracking.log_text(parent, "notes.txt", "\n".join(plan.notes))
            tracking.log_text(parent, "skipped.txt", "\n".join(load(splits[0]).skipped))
            yield parent
        except BaseException as error:
            if not tracking.is_mute(error):
                tracking.kill_running(parent)
            raise


class Clock:
    """Seconds spent in each stage of the flow.

    >>> clock = Clock()
    >>> with clock("data"):
    ...     pass
    >>> list(clock.seconds)
    ['data']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - began, 3)
