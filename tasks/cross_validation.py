"""Functions for cross-validation. They prepare and plan the folds of a comparison, and join the results of the folds.

A comparison without cross-validation has one fold.
"""

from collections.abc import Callable, Sequence
from functools import partial

from kdmodels.errors import UserError
from kdmodels.experiment import Experiment, Variant
from kdmodels.run_status import RunStatus
from tasks.execution.clusters import in_words
from tasks.execution.runners import runner_of
from tasks.planning.leakage import check_registered_teachers
from tasks.planning.plan import make_plan
from tasks.planning.warnings import few_examples, few_inner_examples
from tasks.prepare_data import load, with_teachers
from tasks.references import DataReference, Options, Plan, Reference, StudentReference, TeacherReference
from tasks.results import ACCURACY


class Fold(Reference):
    """One cross-validation fold of a comparison, with its data and its plan.

    Attributes:
        parent: The id of the comparison's run.
    """

    experiment: Experiment
    data: DataReference
    plan: Plan
    parent: str

    @property
    def distilled_variants(self) -> list[Variant]:
        """The variants that need the teacher and are trained in this run, that is, not reused."""
        runs = zip(self.experiment.variants, self.plan.students, strict=True)
        return [variant for variant, run in runs if run.action != "reuse" and variant.needs_teacher]


def prepare_folds(
    experiment: Experiment, options: Options, prepare: Callable[..., DataReference]
) -> list[DataReference]:
    """Load the data of every fold. If a teacher has its own dataset, also load this dataset.

    Args:
        prepare: The function that loads the data of one fold: the Prefect task `prepare_data` or, outside a flow,
            `prepare_data.fn`.

    Returns:
        One reference per fold.

    Raises:
        UserError: the folds have different test splits, because the data source returned different data when it was
            read again.
    """
    folds = []
    for number in range(experiment.data.folds or 1):
        read = partial(prepare, folder=options.data_dir, quiet=options.quiet, fold=number)
        folds.append(with_teachers(read(experiment.data), experiment, read))
    if len({load(data).split_digests["test"] for data in folds}) > 1:
        raise UserError(
            f"data.source: {experiment.data.source} returned different data when it was read again. Cross-validation "
            "needs the same data for every fold"
        )
    return folds


def plan_folds(experiment: Experiment, folds: Sequence[DataReference], *, fresh: bool) -> Plan:
    """Return the plan of the first fold. The field `folds` of this plan holds the plans of the other folds."""
    plan, *others = [make_plan(experiment, data, fresh=fresh) for data in folds]
    unknown, leaks = check_registered_teachers(experiment, folds)
    notes = dict.fromkeys([*(note for part in (plan, *others) for note in part.notes), *unknown])
    if others and any(member.checkpoint for member in experiment.teacher.members):
        notes["the teacher is the same for every fold: it may have been trained on the validation examples"] = None
    warnings = dict.fromkeys([*(warning for part in (plan, *others) for warning in part.warnings), *leaks])
    if len(experiment.variants) > 1:
        examples = sum(data.examples["validation"] for data in folds)
        warnings |= dict.fromkeys(few_examples(examples, experiment.data.folds))
    if experiment.tune:
        _, held = load(folds[0]).inner_rows
        warnings |= dict.fromkeys(few_inner_examples(len(held)))
    update = {"folds": others, "notes": list(notes), "warnings": list(warnings)}
    return plan.model_copy(update=update | {"cluster": in_words(runner_of(experiment))})


FoldResult = tuple[TeacherReference, list[StudentReference]]
"""The teacher and the students of one fold."""


def join_folds(results: Sequence[FoldResult], folds: Sequence[Fold]) -> FoldResult:
    """Return the teacher and the students of the first fold, with accuracies that are computed over all folds.

    Every validation example has the same weight. If a student has unfinished folds, the row of its first
    unfinished fold is returned.

    Time and memory are measured only for the networks of the first fold, and only these networks can be promoted. A
    network with a higher accuracy in another fold is not necessarily better, because each fold has different
    validation examples.

    Args:
        results: The teacher and the students of each fold.
        folds: The folds, in the same order.
    """
    if len(results) == 1:
        return results[0]
    sizes = [fold.data.examples["validation"] for fold in folds]
    teachers, students = zip(*results, strict=True)
    accuracy = _mean([teacher.metrics[ACCURACY] for teacher in teachers], sizes)
    teacher = teachers[0].model_copy(
        update={
            "reused": all(teacher.reused for teacher in teachers),
            "metrics": teachers[0].metrics | {ACCURACY: accuracy},
            "warnings": list(dict.fromkeys(warning for teacher in teachers for warning in teacher.warnings)),
        }
    )
    return teacher, [_join_student(references, sizes) for references in zip(*students, strict=True)]


def _join_student(references: Sequence[StudentReference], sizes: Sequence[int]) -> StudentReference:
    for number, student in enumerate(references, 1):
        if student.status != RunStatus.FINISHED:
            error = f"fold {number}/{len(references)}: {student.error or student.status}"
            return student.model_copy(update={"error": error})
    first = references[0]
    per_seed = _mean_by_seed([student.per_seed[ACCURACY] for student in references], sizes)
    scores = {name: _mean_by_seed([each.scores[name] for each in references], sizes) for name in first.scores}
    return first.model_copy(
        update={
            "reused": all(student.reused for student in references),
            "metrics": {name: value for name, value in first.metrics.items() if name != f"{ACCURACY}/std"}
            | {ACCURACY: sum(per_seed) / len(per_seed)},
            "per_seed": {ACCURACY: per_seed},
            "scores": scores,
            "folds": [student.run_id for student in references],
        }
    )


def _mean_by_seed(folds: Sequence[Sequence[float]], sizes: Sequence[int]) -> list[float]:
    return [_mean(values, sizes) for values in zip(*folds, strict=True)]


def _mean(values: Sequence[float], sizes: Sequence[int]) -> float:
    """Return the weighted mean of `values`, one per fold. The weights are the numbers of examples, `sizes`."""
    return sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
