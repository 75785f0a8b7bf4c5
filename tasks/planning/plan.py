"""The plan of a comparison. It states which runs are reused and which are trained, and gives the reason for each.

Cache keys are computed in `tasks/planning/keys.py`.
"""

from collections.abc import Sequence
from typing import get_args

from kdmodels.data import own_augmentation
from kdmodels.evaluation import metrics
from kdmodels.experiment import Experiment
from kdmodels.networks import replaced_head
from kdmodels.training import own_optimizer
from tasks import tracking
from tasks.planning.keys import Params, ensemble_params, run_key, student_params, teacher_params
from tasks.planning.objectives import check_objectives
from tasks.planning.reasons import explain_miss
from tasks.planning.views import choose_views
from tasks.references import DataReference, Kind, Plan, PlannedRun, Views

RECENT = 1_000  # number of newest runs that are searched for an earlier run of the same name


def make_plan(experiment: Experiment, data: DataReference, *, fresh: bool = False) -> Plan:
    """Return the plan of one cross-validation fold.

    Each planned run has a cache key. If a finished run has the same key, the plan reuses the finished run.

    Args:
        experiment: The experiment that `sized` returned. Every network with a budget has a width and a depth.
        data: The data of the fold.
        fresh: Whether all runs are trained again, even if finished runs could be reused.

    Raises:
        UserError: the teacher's checkpoint, the registered model or the device does not exist. For other errors, see
            `kdmodels.evaluation.metrics.check`, `kdmodels.training.own_optimizer.check`,
            `kdmodels.data.own_augmentation.check`, `check_objectives` and `choose_views`.
    """
    metrics.check([metric.name for metric in experiment.metrics], data.classes)
    for owner, recipe in experiment.recipes:
        own_optimizer.check(f"{owner}.optimizer", recipe.optimizer)
    for field, function in experiment.own_augmentations:
        own_augmentation.check(field, function, data.input_shape)
    trial = check_objectives(experiment, data)
    views = choose_views(experiment, data, trial.shapes)
    teachers = _plan_teachers(experiment, data)
    students = _plan_students(experiment, data, teachers[-1].key, views, trial.student_notes)
    searches = [_plan_search(step) for step in students] if experiment.tune else []
    steps = [*teachers, *students, *searches]
    if data.data.folds:
        fold = f"{data.fold + 1}/{data.data.folds}"
        steps = [step.model_copy(update={"name": f"{step.name} {fold}", "fold": fold}) for step in steps]
    if fresh:
        steps = [step.model_copy(update={"reason": "--fresh", "fresh": True}) for step in steps]
    else:
        steps = look_up(steps, experiment.name)
    *members, teacher = steps[: len(teachers)]
    students = steps[len(teachers) :][: len(students)]
    for index, search in enumerate(steps[len(teachers) + len(students) :]):
        if students[index].action != "reuse":
            students[index] = students[index].model_copy(update={"tuning": search})
    return Plan(
        members=members,
        teacher=teacher,
        knowledge=views,
        students=students,
        notes=data.notes,
        warnings=trial.warnings,
    )


def _plan_teachers(experiment: Experiment, data: DataReference) -> list[PlannedRun]:
    """Return the planned run of the teacher. For an ensemble, the runs of the members precede the ensemble's run."""
    members = [plan_teacher(index, experiment, data) for index in range(len(experiment.teacher.members))]
    if not experiment.teacher.ensemble:
        return members
    params = ensemble_params([member.key for member in members], experiment, data)
    return [*members, planned_run("teacher", "teacher", params, [experiment.seed])]


def plan_teacher(index: int, experiment: Experiment, data: DataReference) -> PlannedRun:
    """Return the planned run of one teacher. Each trained member of an ensemble has its own seed.

    Args:
        index: The position of the member in the ensemble, from 0. Without an ensemble, 0.
    """
    teacher = experiment.teacher.members[index]
    is_trained = not (teacher.checkpoint or teacher.registry)
    name = f"teacher-{index + 1}" if experiment.teacher.ensemble else "teacher"
    params = teacher_params(teacher, experiment, data)
    note = ""
    if teacher.network and not teacher.checkpoint:
        note = replaced_head(teacher.network, len(data.classes))
    return planned_run(name, "teacher", params, [experiment.seed + index * is_trained], note)


def _plan_students(
    experiment: Experiment, data: DataReference, teacher_key: str, views: Views, notes: Sequence[str]
) -> list[PlannedRun]:
    """Return one planned run per variant.

    Args:
        notes: One note per variant, see `Trial.student_notes`.
    """
    seeds = [experiment.seed + index for index in range(experiment.student.seeds)]
    runs = []
    for variant, note in zip(experiment.variants, notes, strict=True):
        params = student_params(variant, experiment, data, teacher_key, views)
        head = replaced_head(experiment.student_of(variant).network, len(data.classes))
        runs.append(planned_run(variant.name, "student", params, seeds, "; ".join(filter(None, (head, note)))))
    return runs


def _plan_search(student: PlannedRun) -> PlannedRun:
    """Return the planned search for a student's hyperparameters.

    The params hold the seed of the search, so `seeds` is empty.
    """
    return planned_run(f"{student.name} tuning", "tuning", student.params, [])


def planned_run(name: str, kind: Kind, params: Params, seeds: list[int], note: str = "") -> PlannedRun:
    """Return a planned run with the action `train`. `look_up` changes the action if an earlier run can be used."""
    key = run_key(params, seeds)
    return PlannedRun(
        name=name,
        kind=kind,
        action="train",
        reason="no finished run has its key",
        key=key.key,
        replicas=key.replicas,
        params=key.params,
        seeds=seeds,
        note=note,
    )


def look_up(steps: Sequence[PlannedRun], experiment: str) -> list[PlannedRun]:
    """Return the planned runs with their actions and reasons.

    If a finished run has the cache key of a planned run, the finished run is reused. Otherwise, `explain_miss` chooses
    the action.
    """
    finished = {
        kind: tracking.finished(kind, [step.key for step in steps if step.kind == kind]) for kind in get_args(Kind)
    }
    planned = [
        _reuse(step, finished[step.kind][step.key]) if step.key in finished[step.kind] else step for step in steps
    ]
    if all(step.action == "reuse" for step in planned):
        return planned
    recent = [run for run in tracking.runs(limit=RECENT) if run.experiment == experiment]
    return [explain_miss(step, recent, experiment) if step.action == "train" else step for step in planned]


def _reuse(step: PlannedRun, run: tracking.Run) -> PlannedRun:
    return step.model_copy(
        update={"action": "reuse", "reason": f"run {run.run_id[:8]} has the same key", "source": run.run_id}
    )
