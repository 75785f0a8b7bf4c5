"""Significance of differences between variants, against scipy and figures worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdmodels.evaluation.correctness import Correctness
from kdmodels.evaluation.ranking import StudentResult, ranked
from kdmodels.evaluation.significance import Evidence, evidence, groups
from kdmodels.evaluation.statistics import holm
from tests.support.students import CONTROL, KD, failed, student

N = 200
Pair = tuple[StudentResult, Correctness]


def nested(variant: str, accuracies: list[float], n: int = N, split: str = "v") -> Pair:
    """Return a student whose seeds are right on the first examples, in an order that all students share."""
    outcomes = np.arange(n) < np.round(np.array(accuracies) * n)[:, None]  # (S, n)
    return student(variant, outcomes.mean(axis=1).tolist()), Correctness(split, outcomes)


def scattered(variant: str, accuracy: float, seeds: int = 3, n: int = N) -> Pair:
    """Return a student whose seeds are right at random, independently on each example."""
    generator = np.random.default_rng([len(variant), ord(variant[0]), seeds])
    outcomes = generator.random((seeds, n)) < accuracy
    return student(variant, outcomes.mean(axis=1).tolist()), Correctness("v", outcomes)


def together(*pairs: Pair) -> tuple[list[StudentResult], dict[str, Correctness]]:
    students = [one for one, _ in pairs]
    return students, {f"run-{one.variant}": correctness for one, correctness in pairs}


def test_unknown_evidence_is_none() -> None:
    of_control, of_kd = evidence([CONTROL, KD])
    p = pytest.approx(stats.ttest_1samp([0.04, 0.02, 0.03], 0).pvalue)
    assert of_kd.control_p == of_kd.control_p_holm == of_control.best_p_holm == p
    assert of_control == Evidence(best_p_holm=of_control.best_p_holm, group=2)
    assert evidence([KD]) == [Evidence(group=1)]
    assert evidence([failed("hard-labels"), KD]) == [Evidence(), Evidence(group=1)]
    assert evidence([failed("kd"), CONTROL]) == [Evidence(), Evidence(group=1)]
    assert evidence([failed("kd")]) == [Evidence()]


def test_p_values_are_corrected_for_their_number() -> None:
    """The smaller of two is doubled. The control and `same` have no p-value and do not count."""
    near = student("near", [0.92, 0.935, 0.92])
    same = student("same", CONTROL.per_seed["val/accuracy"])
    _, of_kd, of_near, of_same = evidence([CONTROL, KD, near, same])
    low, high = sorted([of_kd.control_p, of_near.control_p])
    corrected = sorted([of_kd.control_p_holm, of_near.control_p_holm])
    assert corrected == pytest.approx([2 * low, max(2 * low, high)])
    assert of_same.control_p is of_same.control_p_holm is None


def test_a_student_with_one_seed_is_in_no_group_because_it_may_be_luck() -> None:
    of_control, of_kd = evidence(*together(nested("hard-labels", [0.5]), nested("kd", [0.97])))
    assert [of_control.group, of_kd.group] == [None, 1]
    assert of_control.best_p_mcnemar < 1e-9


def test_intervals_over_examples_are_wilsons() -> None:
    """The interval of one seed is scipy's. The interval of several seeds is that of their mean."""
    lines = evidence(*together(nested("hard-labels", [0.9]), nested("kd", [0.9, 0.95, 1.0])))
    for line, count in zip(lines, (180, 190), strict=True):
        wilson = stats.binomtest(count, N).proportion_ci(method="wilson")
        assert (line.examples_low, line.examples_high) == pytest.approx((wilson.low, wilson.high))


def test_mcnemars_test_compares_the_stored_networks_and_is_corrected() -> None:
    """The stored network is that of the best seed."""
    students, correctness = together(scattered("hard-labels", 0.7), scattered("kd", 0.85), scattered("dkd", 0.75))
    stored = {one.variant: max(correctness[one.run_id].outcomes.tolist(), key=sum) for one in students}
    of_control, of_kd, of_dkd = evidence(students, correctness)
    p = {}
    for name in ("kd", "dkd"):
        differences = [int(a) - int(b) for a, b in zip(stored[name], stored["hard-labels"], strict=True)]
        p[name] = stats.binomtest(differences.count(1), differences.count(1) + differences.count(-1)).pvalue
    expected = holm([p["kd"], p["dkd"]])
    assert [of_kd.control_p_mcnemar, of_dkd.control_p_mcnemar] == pytest.approx(expected)
    assert of_control.control_p_mcnemar is of_kd.best_p_mcnemar is None


def test_the_bootstrap_of_one_seed_is_scipys_of_paired_examples() -> None:
    students, correctness = together(scattered("hard-labels", 0.7, 1, 2000), scattered("kd", 0.72, 1, 2000))
    _, line = evidence(students, correctness)
    one, other = (correctness[f"run-{name}"].outcomes[0].astype(float) for name in ("kd", "hard-labels"))
    result = stats.bootstrap((one - other,), np.mean, method="percentile", n_resamples=5000, random_state=0)
    expected = result.confidence_interval
    assert (line.bootstrap_low, line.bootstrap_high) == pytest.approx((expected.low, expected.high), abs=0.003)


def test_the_bootstrap_is_wider_if_seeds_differ() -> None:
    """Two networks of each: the same mean, but one pair of seeds gains 20 points and the other loses 16."""
    equal_seeds = together(nested("hard-labels", [0.8, 0.8]), nested("kd", [0.82, 0.82]))
    unequal_seeds = together(nested("hard-labels", [0.8, 0.8]), nested("kd", [1.0, 0.64]))
    narrow, wide = evidence(*equal_seeds)[1], evidence(*unequal_seeds)[1]
    assert narrow.bootstrap_low >= 0.0
    assert wide.bootstrap_low < -0.1
    assert wide.bootstrap_high > 0.15


def test_share_of_wins() -> None:
    """A student that is ahead on every example always wins. Students that tie share the win."""
    lines = evidence(*together(nested("hard-labels", [0.5]), nested("kd", [0.9]), nested("dkd", [0.9])))
    assert [line.wins for line in lines] == [0.0, 0.5, 0.5]
    students, correctness = together(scattered("kd", 0.8, seeds=1), scattered("dkd", 0.8, seeds=1))
    of_kd, of_dkd = evidence(students, correctness)
    gain = correctness["run-kd"].outcomes[0].astype(float) - correctness["run-dkd"].outcomes[0]
    expected = stats.norm.cdf(gain.mean() / (gain.std() / N**0.5))
    assert of_kd.wins == pytest.approx(expected, abs=0.05)
    assert of_kd.wins + of_dkd.wins == pytest.approx(1)


def test_students_on_different_examples_are_not_compared() -> None:
    of_control, of_kd = evidence(*together(nested("hard-labels", [0.5], split="old"), nested("kd", [0.9])))
    assert of_control.best_p_mcnemar is of_kd.control_p_mcnemar is of_kd.bootstrap_low is None
    assert (of_control.wins, of_kd.wins) == (None, 1.0)
    assert of_control.examples_low is not None


def test_students_on_different_examples_are_not_paired_by_seed() -> None:
    lines = evidence(*together(nested("hard-labels", [0.5, 0.51], split="old"), nested("kd", [0.9, 0.93])))
    for line in lines:
        assert line.control_difference is line.control_p is line.best_p_holm is None
    assert [line.group for line in lines] == [None, 1]


def test_groups_differ_only_if_both_tests_are_significant() -> None:
    """On 20 examples only the test over seeds is significant. On 2,000 examples both tests are."""
    steady = {"hard-labels": [0.70, 0.71, 0.72], "kd": [0.80, 0.81, 0.83], "dkd": [0.80, 0.82, 0.82]}
    for n, expected in ((20, [1, 1, 1]), (2000, [2, 1, 1])):
        students, correctness = together(*(nested(name, values, n=n) for name, values in steady.items()))
        students = [
            one.model_copy(update={"per_seed": {"val/accuracy": steady[one.variant]}}) for one in students
        ]  # not rounded to 20 examples
        assert [line.group for line in evidence(students, correctness)] == expected
    unsteady = steady | {"hard-labels": [0.80, 0.60, 0.73]}
    lines = evidence(*together(*(nested(name, values, n=2000) for name, values in unsteady.items())))
    assert [line.group for line in lines] == [1, 1, 1]


def test_the_rest_of_the_first_group_is_grouped_in_the_same_way() -> None:
    accuracies = {"a": [0.90, 0.91, 0.92], "b": [0.80, 0.81, 0.83], "c": [0.80, 0.82, 0.82], "d": [0.5, 0.51, 0.525]}
    students, correctness = together(*(nested(name, values, n=5000) for name, values in accuracies.items()))
    assert groups(ranked(students), correctness) == {"a": 1, "b": 2, "c": 2, "d": 3}


@given(st.lists(st.lists(st.integers(0, 20), min_size=2, max_size=2), min_size=1, max_size=6))
def test_groups_are_numbered_without_gaps_and_the_best_is_in_the_first(counts: list[list[int]]) -> None:
    pairs = [nested(f"v{index}", [count / 20 for count in seeds], n=20) for index, seeds in enumerate(counts)]
    students, correctness = together(*pairs)
    order = ranked(students)
    numbers = groups(order, correctness)
    assert numbers[order[0].variant] == 1
    assert set(numbers.values()) == set(range(1, max(numbers.values()) + 1))
    lines = evidence(students, correctness)
    assert sum(line.wins for line in lines) == pytest.approx(1)
    for line, one in zip(lines, students, strict=True):
        assert line.examples_low - 1e-12 <= one.accuracy <= line.examples_high + 1e-12


def test_a_variant_equal_to_the_best_on_every_seed_is_in_its_group() -> None:
    """The t test is not defined if all differences are 0."""
    pairs = nested("hard-labels", [0.5, 0.52]), nested("kd", [0.9, 0.93]), nested("dkd", [0.9, 0.93])
    assert [line.group for line in evidence(*together(*pairs))][1:] == [1, 1]


def test_equal_variants_seldom_form_a_second_group() -> None:
    """Simulate 12 equal variants of 5 seeds; the accuracies of seeds vary by 2 points.

    `benchmarks.gate` simulates more. If p-values were corrected for 11 pairs instead of 66, 15 % would be wrong.
    """
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(150):
        difficulty = generator.random(10_000)
        pairs = []
        for number in range(12):
            accuracies = generator.normal(0.9, 0.02, (5, 1))
            outcomes = difficulty + generator.normal(0.0, 0.03, (5, 10_000)) < accuracies
            pairs.append((student(f"v{number}", outcomes.mean(axis=1).tolist()), Correctness("v", outcomes)))
        students, correctness = together(*pairs)
        wrong += max(groups(ranked(students), correctness).values()) > 1
    assert wrong <= 14  # Binomial(150, 0.05) exceeds 14 with probability 0.01


def test_p_values_against_the_best_are_corrected_for_all_pairs() -> None:
    """Four students form six pairs. The smallest p-value of all is multiplied by 6."""
    values = {"a": [0.97, 0.975, 0.97], "b": [0.9, 0.91, 0.93], "c": [0.8, 0.84, 0.82], "d": [0.5, 0.506, 0.501]}
    students = [student(name, accuracies) for name, accuracies in values.items()]
    pairs = {
        pair: stats.ttest_rel(values[pair[0]], values[pair[1]]).pvalue for pair in ("ab", "ac", "ad", "bc", "bd", "cd")
    }
    assert min(pairs, key=lambda pair: pairs[pair]) == "ad"
    assert evidence(students)[3].best_p_holm == pytest.approx(6 * pairs["ad"])
