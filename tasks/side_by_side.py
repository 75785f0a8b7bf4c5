"""Functions that show two comparisons, or two versions of registered models, side by side.

This module imports neither torch nor prefect, so that `kd compare` starts quickly.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, JsonValue

from kdmodels.errors import UserError
from kdmodels.evaluation.correctness import Correctness
from kdmodels.evaluation.ranking import winner
from kdmodels.evaluation.significance import LEVEL, evidence
from kdmodels.report.formats import difference, p_value
from tasks import queries, results, tracking
from tasks.references import StudentReference
from tasks.tracking.tags import Tag


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Side(_Line):
    """One of the two sides: a comparison, or a version of a registered model.

    Attributes:
        run_id: The id of the comparison's run, or of the run of the version's student.
        started: The start of this run in UTC, in ISO 8601 format.
        model: The version as `models:/name/number`. `None` for a comparison.
        student: The winner of the comparison, or the student of the version.
        metrics: The metrics of the student's run, without test metrics.
        parameters: The number of the student's parameters.
        test_accuracy: The accuracy on the test images when the version was promoted, with its 95 % interval. `None` if
            it is not recorded.
    """

    run_id: str
    experiment: str
    started: str
    model: str | None
    student: str
    metrics: dict[str, float]
    parameters: int | None
    test_accuracy: str | None


class FieldDifference(_Line):
    """A field of the experiment file that has different values on the two sides.

    Attributes:
        a, b: The value on each side. `None` if the experiment file of this side does not have the field.
    """

    field: str
    a: JsonValue
    b: JsonValue


class StudentPair(_Line):
    """One student of each side, and the difference of their accuracies.

    Attributes:
        variant: The name of the variant. If the two students have different names, both names in the form `a / b`.
        a, b: The mean validation accuracy of each student, from 0 to 1.
        same_run: Whether both sides have the same run, because one comparison reused the run of the other.
        difference: The accuracy of B minus the accuracy of A. `None` if both sides have the same run, or if the sides
            can't be compared fairly.
        low, high: The bounds of the 95 % interval of the difference. If the networks can be paired by seed, this is
            Student's t interval over the pairs. Otherwise, it is the bootstrap interval over seeds and images.
        p_seeds: The p-value of the paired t test over seeds.
        p_examples: The p-value of McNemar's exact test of the stored networks over the validation images.
    """

    variant: str
    a: float
    b: float
    same_run: bool
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_seeds: float | None = None
    p_examples: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether at least one test can be made, and all tests that can be made are significant."""
        p_values = [p for p in (self.p_seeds, self.p_examples) if p is not None]
        return bool(p_values) and max(p_values) < LEVEL


class SideBySide(_Line):
    """Two comparisons or two versions side by side.

    Attributes:
        comparable: Whether the two sides can be compared fairly.
        note: Why the two sides can or can't be compared fairly.
        differences: The fields in which the experiment files differ.
        students: Pairs of students. The first pair holds the two winners, or the students of the two versions. The
            other pairs hold the variants that both comparisons have.
        result: The difference between the first two students, in words.
    """

    a: Side
    b: Side
    comparable: bool
    note: str
    differences: list[FieldDifference]
    students: list[StudentPair]
    result: str


@dataclass(frozen=True)
class _Source:
    """The recorded data of one side."""

    run: tracking.Run
    version: tracking.Version | None
    students: Mapping[str, StudentReference]
    best: StudentReference
    correctness: Mapping[str, Correctness]


def side_by_side(a: str, b: str) -> SideBySide | None:
    """Compare two comparisons, or two versions of registered models.

    Args:
        a, b: Each a run or a registered model, see `tasks.queries.find_run`. The name of an experiment selects its
            latest comparison.

    Returns:
        The comparison. `None` if `a` and `b` do not name two comparisons or two versions.

    Raises:
        UserError: there is no such run or model, or a comparison has no finished student.
    """
    tracking.configure()
    runs = [queries.find_run(word) for word in (a, b)]
    versions = [_version(word, run) for word, run in zip((a, b), runs, strict=True)]
    if not (all(run.kind == "comparison" for run in runs) or all(versions)):
        return None
    first, second = (_source(run, version) for run, version in zip(runs, versions, strict=True))
    comparable, note = _fairness(first, second)
    best = (first.best.variant, second.best.variant)
    shared = [name for name in first.students if name in second.students and best != (name, name)]
    shared.sort(key=lambda name: -first.students[name].accuracy)
    pairs = [(first.best, second.best), *((first.students[name], second.students[name]) for name in shared)]
    correctness = dict(first.correctness) | dict(second.correctness)
    students = [_pair(one, other, correctness, comparable=comparable) for one, other in pairs]
    return SideBySide(
        a=_side(first),
        b=_side(second),
        comparable=comparable,
        note=note,
        differences=_file_differences(first.run, second.run),
        students=students,
        result=_result(students[0]),
    )


def _version(word: str, run: tracking.Run) -> tracking.Version | None:
    try:
        version = tracking.find_model(word)
    except UserError:
        return None
    return version if version.run_id == run.run_id else None


def _source(run: tracking.Run, version: tracking.Version | None) -> _Source:
    rows = queries.rows_of(run)
    best = winner(rows)
    if best is None:
        raise UserError(f"run {run.name} ({run.run_id}): none of its students finished")
    students = {row.variant: row for row in rows if row.finished}
    return _Source(run, version, students, students[best.variant], results.correctness(run))


def _side(source: _Source) -> Side:
    run, version = source.run, source.version
    return Side(
        run_id=run.run_id,
        experiment=run.experiment,
        started=datetime.fromtimestamp(run.start / 1000, UTC).isoformat(timespec="seconds"),
        model=version.uri if version else None,
        student=source.best.variant,
        metrics=source.best.metrics,
        parameters=source.best.parameters,
        test_accuracy=version.tags.get(Tag.TEST_ACCURACY) if version else None,
    )


def _fairness(first: _Source, second: _Source) -> tuple[bool, str]:
    """Return whether two sides can be compared fairly, and the reason."""
    splits = [{each.split for each in source.correctness.values()} for source in (first, second)]
    if not all(splits):
        return False, "They can't be compared fairly: it is not recorded which validation images one of them used."
    if splits[0] != splits[1]:
        return False, (
            "They can't be compared fairly: their validation images differ, so a difference of their accuracies may be "
            "due to the images. Allowed: kd run with the same data and seed."
        )
    examples = next(iter(first.correctness.values())).outcomes.shape[1]
    return True, f"Both have the same {examples:,} validation images, so their accuracies can be compared."


def _pair(
    a: StudentReference, b: StudentReference, correctness: Mapping[str, Correctness], *, comparable: bool
) -> StudentPair:
    name = a.variant if a.variant == b.variant else f"{a.variant} / {b.variant}"
    pair = StudentPair(variant=name, a=a.accuracy, b=b.accuracy, same_run=a.run_id == b.run_id)
    if pair.same_run or not comparable:
        return pair
    # `evidence` compares each student with its control. Here, A takes the place of the control of B.
    first = a.model_copy(update={"variant": "a", "control": "a"})
    second = b.model_copy(update={"variant": "b", "control": "a"})
    tests = evidence([first, second], correctness)[1]
    has_t_interval = tests.control_difference_low is not None
    return pair.model_copy(
        update={
            "difference": tests.control_difference,
            "low": tests.control_difference_low if has_t_interval else tests.bootstrap_low,
            "high": tests.control_difference_high if has_t_interval else tests.bootstrap_high,
            "p_seeds": tests.control_p,
            "p_examples": tests.control_p_mcnemar,
        }
    )


def _result(pair: StudentPair) -> str:
    if pair.same_run:
        return f"Both have the same run of {pair.variant}."
    if pair.difference is None:
        return f"The difference of {pair.variant} is not tested."
    tests = {"over seeds": pair.p_seeds, "over examples": pair.p_examples}
    shown = ", ".join(f"{p_value(p)} {name}" for name, p in tests.items() if p is not None)
    significance = "significantly different" if pair.is_significant else "not significantly different"
    lead = difference(pair.difference, pair.low, pair.high)
    return f"B minus A is {lead} points for {pair.variant}: {significance}{f' (p {shown})' if shown else ''}."


def _file_differences(first: tracking.Run, second: tracking.Run) -> list[FieldDifference]:
    a, b = _fields(first), _fields(second)
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return [FieldDifference(field=name, a=a.get(name), b=b.get(name)) for name in names]


def _fields(run: tracking.Run) -> dict[str, JsonValue]:
    """Return the fields of the experiment file that made a run, by dotted name. Each variant counts as one field."""
    run_id = run.parent or run.run_id
    if not tracking.has_artifact(run_id, "experiment.json"):
        return {}
    experiment = tracking.read_json(run_id, "experiment.json")
    variants: JsonValue = {variant["name"]: json.dumps(variant) for variant in experiment.pop("variants", [])}
    return _flat({**experiment, "variants": variants})


def _flat(value: JsonValue, prefix: str = "") -> dict[str, JsonValue]:
    """Return the leaves of nested mappings by dotted name.

    This function differs from `tasks.planning.keys.flatten`, which imports torch and writes lists as JSON.

    >>> _flat({"student": {"epochs": 5, "network": {"mlp": [8]}}})
    {'student.epochs': 5, 'student.network.mlp': [8]}
    """
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    leaves: dict[str, JsonValue] = {}
    for name, part in value.items():
        leaves |= _flat(part, f"{prefix}.{name}" if prefix else name)
    return leaves
