"""Significance tests of differences between variants, over seeds and over validation examples.

A variant is one student with one training objective. It is trained once per seed.

A test over seeds treats the validation examples as fixed. A test over examples treats the trained networks as fixed.
Two variants differ significantly only if both tests are significant. All p-values are corrected for the number of
tests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kdmodels.evaluation.correctness import UNKNOWN, Correctness
from kdmodels.evaluation.ranking import ACCURACY, StudentResult, ranked
from kdmodels.evaluation.statistics import (
    Interval,
    holm,
    mcnemar_exact,
    resampled_means,
    t_interval,
    t_test,
    wilson_interval,
)

LEVEL = 0.05  # the probability of a false positive over all pairs of variants together
RESAMPLES = 2_000


class Evidence(BaseModel):
    """The uncertainty of a student's accuracy, and the student's comparison with its control and the best student.

    The control is the same student, trained on labels only.

    All intervals are 95 % intervals. All accuracies are from 0 to 1. A value that cannot be computed is `None`. The
    alias of a field is its key in JSON and its column in CSV.

    Attributes:
        examples_low, examples_high: The ends of Wilson's interval of the mean accuracy, over examples.
        control_difference: The student's mean accuracy minus the control's mean accuracy.
        control_difference_low, control_difference_high: The ends of Student's t interval of `control_difference`.
            Networks with the same seed are paired, because they share the order of batches and other random draws.
        control_p: The two-sided p-value of the paired t test against the control, over seeds. It is not corrected.
        control_p_holm: `control_p` with Holm's correction for the tests of all students against their controls.
        best_p_holm: The p-value of the paired t test against the best student, over seeds. Holm's correction covers all
            pairs of students.
        bootstrap_low, bootstrap_high: The ends of the bootstrap interval of the difference from the control. Seeds and
            examples are both resampled.
        control_p_mcnemar: The p-value of McNemar's exact test against the control, over examples. The test compares the
            stored networks. Holm's correction covers the tests of all students against their controls.
        best_p_mcnemar: The p-value of McNemar's exact test against the best student, over examples. Holm's correction
            covers all pairs of students.
        wins: The share of the bootstrap resamples in which this student is the best. Equally good students share a
            resample.
        group: The number of the student's group, as returned by `groups`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples_low: float | None = Field(default=None, serialization_alias="examples low")
    examples_high: float | None = Field(default=None, serialization_alias="examples high")
    control_difference: float | None = Field(default=None, serialization_alias="vs control")
    control_difference_low: float | None = Field(default=None, serialization_alias="vs control low")
    control_difference_high: float | None = Field(default=None, serialization_alias="vs control high")
    control_p: float | None = Field(default=None, serialization_alias="vs control p")
    control_p_holm: float | None = Field(default=None, serialization_alias="vs control holm")
    best_p_holm: float | None = Field(default=None, serialization_alias="vs best holm")
    bootstrap_low: float | None = Field(default=None, serialization_alias="bootstrap low")
    bootstrap_high: float | None = Field(default=None, serialization_alias="bootstrap high")
    control_p_mcnemar: float | None = Field(default=None, serialization_alias="vs control mcnemar")
    best_p_mcnemar: float | None = Field(default=None, serialization_alias="vs best mcnemar")
    wins: float | None = None
    group: int | None = None


@dataclass(frozen=True)
class _Difference:
    """A student's mean accuracy minus its control's mean accuracy, with the interval and p-value over seeds."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class _Bootstrap:
    """The results of resampling for one student.

    Attributes:
        wins: The share of resamples in which the student has the highest accuracy of all students. Equally good
            students share a resample.
        low, high: The ends of the 95 % interval of the student's accuracy minus its control's accuracy.
    """

    wins: float | None = None
    low: float | None = None
    high: float | None = None


def evidence(students: Sequence[StudentResult], correctness: Mapping[str, Correctness] = UNKNOWN) -> list[Evidence]:
    """Return the statistical evidence for each student, in the order of `students`.

    Comparisons with the best student are corrected for all pairs of students, because the best student is chosen by the
    same accuracies that are tested.

    All results of a comparison are `None` if one of the two runs has not finished, or if the runs have different
    validation examples. The intervals and p-values over seeds are also `None` in these cases:

    - The two runs have different seeds, or only one seed.
    - All seeds have the same difference of the accuracies.

    Args:
        students: All compared students. The list includes the controls and the best student.
        correctness: The correctness of each run, by run id. If a run is missing, e.g. because an old version of kdflow
            recorded the run, all its results over examples are `None`.
    """
    order = ranked(students)
    finished = {student.variant: student for student in order}
    controls = [finished.get(student.control or "") if student.finished else None for student in students]
    pairs = list(zip(students, controls, strict=True))
    differences = [_difference(student, control, correctness) for student, control in pairs]
    over_seeds = holm([difference.p_value for difference in differences])
    over_examples = holm([_p_over_examples(student, control, correctness) for student, control in pairs])
    best_over_seeds = corrected_pairs(order, correctness, _p_over_seeds)
    best_over_examples = corrected_pairs(order, correctness, _p_over_examples)
    bootstraps = _bootstraps(order, correctness)
    numbers = groups(order, correctness)
    lines = []
    for index, student in enumerate(students):
        examples_low, examples_high = _examples_interval(student, correctness) or (None, None)
        with_best = frozenset((order[0].variant, student.variant)) if order else frozenset()
        bootstrap = bootstraps.get(student.variant, _Bootstrap())
        lines.append(
            Evidence(
                examples_low=examples_low,
                examples_high=examples_high,
                control_difference=differences[index].mean,
                control_difference_low=differences[index].low,
                control_difference_high=differences[index].high,
                control_p=differences[index].p_value,
                control_p_holm=over_seeds[index],
                best_p_holm=best_over_seeds.get(with_best),
                bootstrap_low=bootstrap.low,
                bootstrap_high=bootstrap.high,
                control_p_mcnemar=over_examples[index],
                best_p_mcnemar=best_over_examples.get(with_best),
                wins=bootstrap.wins,
                group=numbers.get(student.variant),
            )
        )
    return lines


def groups(order: Sequence[StudentResult], correctness: Mapping[str, Correctness]) -> dict[str, int]:
    """Return the group of each variant, counted from 1.

    Group 1 holds the best variant and every variant that is not significantly different from the best variant. The next
    group is formed in the same way from the remaining variants. Two variants differ significantly if the test over
    seeds and the test over examples are both significant. The level for all pairs together is 5 %.

    If a variant cannot be tested over seeds against the best variant of a group, the variant has no group. An example
    is a variant with one seed, whose result may be luck.

    Args:
        order: The finished students in the order of `ranked`.
        correctness: The correctness of each run, by run id.
    """
    corrected = corrected_pairs(order, correctness, _p_over_both)
    numbers: dict[str, int] = {}
    rest = [student.variant for student in order]
    number = 0
    while rest:
        number += 1
        head, *others = rest
        numbers[head] = number
        p_values = {name: corrected[frozenset((head, name))] for name in others}
        numbers |= {name: number for name, p in p_values.items() if p is not None and p >= LEVEL}
        rest = [name for name, p in p_values.items() if p is not None and p < LEVEL]
    return numbers


def corrected_pairs(
    order: Sequence[StudentResult],
    correctness: Mapping[str, Correctness],
    test: Callable[[StudentResult, StudentResult, Mapping[str, Correctness]], float | None],
) -> dict[frozenset[str], float | None]:
    """Return the p-value of each pair of variants, with Holm's correction for all pairs.

    The correction covers all pairs even if the caller needs only the comparisons with the best variant. The best of k
    equally good variants is ahead by luck. A correction for only its k - 1 comparisons would ignore this luck.

    Args:
        order: The finished students in the order of `ranked`.
        correctness: The correctness of each run, by run id.
        test: A function that returns the p-value of two students, or `None` if the test can't be carried out.

    Returns:
        The corrected p-value, by the names of the two variants. `None` if the test can't be carried out.
    """
    pairs = list(combinations(order, 2))
    names = [frozenset((one.variant, other.variant)) for one, other in pairs]
    return dict(zip(names, holm([test(other, one, correctness) for one, other in pairs]), strict=True))


def _examples_interval(student: StudentResult, correctness: Mapping[str, Correctness]) -> Interval | None:
    outcomes = correctness.get(student.run_id or "")
    if outcomes is None or not student.finished:
        return None
    seeds, examples = outcomes.outcomes.shape
    return wilson_interval(outcomes.outcomes.sum() / seeds, examples)


def _difference(
    student: StudentResult, control: StudentResult | None, correctness: Mapping[str, Correctness]
) -> _Difference:
    if control is None or control is student or not _have_same_examples(student, control, correctness):
        return _Difference()
    mean = student.accuracy - control.accuracy
    differences = _differences_by_seed(student, control)
    if not differences:
        return _Difference(mean)
    low, high = t_interval(differences) or (None, None)
    return _Difference(mean, low, high, t_test(differences))


def _p_over_both(student: StudentResult, other: StudentResult, correctness: Mapping[str, Correctness]) -> float | None:
    """Return the larger of two p-values: the p-value over seeds and the p-value over examples.

    The result is therefore below 5 % only if both tests are significant. Such a test is called an intersection-union
    test.

    Returns:
        The larger p-value, except in these cases:

        - If both students have the same accuracy for each of at least 2 seeds, the result is 1.
        - If the test over seeds can't be carried out, the result is `None`.
        - If only the test over examples can't be carried out, the result is the p-value over seeds.

    References:
        Berger, "Multiparameter hypothesis testing and acceptance sampling", 1982.
    """
    if _have_same_examples(student, other, correctness):
        differences = _differences_by_seed(student, other)
        if differences == [0.0] * max(2, len(student.seeds)):
            return 1.0  # the t test is not defined for differences without spread, but the accuracies are equal
    p_seeds, p_examples = (test(student, other, correctness) for test in (_p_over_seeds, _p_over_examples))
    return p_seeds if p_seeds is None or p_examples is None else max(p_seeds, p_examples)


def _p_over_seeds(student: StudentResult, other: StudentResult, correctness: Mapping[str, Correctness]) -> float | None:
    if not _have_same_examples(student, other, correctness):
        return None
    differences = _differences_by_seed(student, other)
    return t_test(differences) if differences else None


def _p_over_examples(
    student: StudentResult, other: StudentResult | None, correctness: Mapping[str, Correctness]
) -> float | None:
    if other is None or other is student:
        return None
    first, second = (correctness.get(each.run_id or "") for each in (student, other))
    if first is None or second is None or first.split != second.split:
        return None
    return mcnemar_exact(first.stored, second.stored).p_value


def _have_same_examples(student: StudentResult, other: StudentResult, correctness: Mapping[str, Correctness]) -> bool:
    """Return whether two runs used the same validation split. If the split of a run is unknown, return True."""
    first, second = (correctness.get(each.run_id or "") for each in (student, other))
    return first is None or second is None or first.split == second.split


def _differences_by_seed(student: StudentResult, other: StudentResult) -> list[float] | None:
    """Return the difference of the accuracies for each seed. `None` if the two students have different seeds."""
    first, second = (dict(zip(each.seeds, each.per_seed[ACCURACY], strict=True)) for each in (student, other))
    if first.keys() != second.keys():
        return None
    # Rounding makes differences equal that differ only in the last bit.
    return [round(first[seed] - second[seed], 12) for seed in first]


def _bootstraps(order: Sequence[StudentResult], correctness: Mapping[str, Correctness]) -> dict[str, _Bootstrap]:
    """Return the bootstrap results of each variant, by name. All variants are resampled together.

    A variant is left out if its correctness is unknown or if its validation split differs from the best variant's. If
    the correctness of the best variant is unknown, the result is empty.

    Args:
        order: The finished students in the order of `ranked`.
        correctness: The correctness of each run, by run id.
    """
    known = {
        student.variant: correctness[student.run_id]
        for student in order
        if student.run_id is not None and student.run_id in correctness
    }
    if not order or order[0].variant not in known:
        return {}
    split = known[order[0].variant].split
    drawn = [student for student in order if student.variant in known and known[student.variant].split == split]
    # The seed is fixed so that the same students always get the same results.
    means = resampled_means(
        [known[student.variant].outcomes for student in drawn],
        resamples=RESAMPLES,
        generator=np.random.default_rng(0),
    ).round(12)  # (RESAMPLES, students)
    is_best = means == means.max(axis=1, keepdims=True)
    wins = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)  # equal students share a win
    columns = {student.variant: means[:, index] for index, student in enumerate(drawn)}
    bootstraps = {}
    for index, student in enumerate(drawn):
        low = high = None
        if student.control in columns and student.control != student.variant:
            differences = columns[student.variant] - columns[student.control]
            low, high = map(float, np.quantile(differences, [0.025, 0.975]))
        bootstraps[student.variant] = _Bootstrap(float(wins[index]), low, high)
    return bootstraps
