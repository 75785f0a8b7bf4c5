"""The leaderboard, against figures worked out by hand and by scipy."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdmodels.evaluation.ranking import StudentResult, winner
from kdmodels.evaluation.significance import Evidence
from kdmodels.report.leaderboard import LeaderboardRow, leaderboard
from kdmodels.run_status import RunStatus
from tests.support.students import CONTROL, KD, failed, student


def by_variant(*students: StudentResult) -> dict[str, LeaderboardRow]:
    return {row.student.variant: row for row in leaderboard(students)}


def test_students_are_ranked_by_mean_and_failed_students_come_last_without_figures() -> None:
    rows = leaderboard([failed("broken"), CONTROL, KD])
    assert [row.student.variant for row in rows] == ["kd", "hard-labels", "broken"]
    assert [row.rank for row in rows] == [1, 2, None]
    broken = rows[2]
    assert (broken.accuracy, broken.std, broken.low, broken.costs.parameters) == (None, None, None, None)
    assert broken.evidence == Evidence()


def test_figures_of_one_row() -> None:
    kd = by_variant(CONTROL, KD)["kd"]
    assert kd.accuracy == pytest.approx(0.95)
    assert kd.std == pytest.approx(0.0264575)  # sqrt((0.01^2 + 0.02^2 + 0.03^2) / 2)
    half = 4.302653 * 0.0264575 / 3**0.5
    assert (kd.low, kd.high) == pytest.approx((0.95 - half, 1.0), abs=1e-6)  # 1.016 is cut off at 1
    assert kd.costs.parameters == 100


def test_the_difference_to_the_control_is_paired_by_seed() -> None:
    # The paired interval is narrow because both are good at seed 2. Seeds are matched by number, not by position.
    shuffled = student("kd", [0.98, 0.94, 0.93], seeds=[2, 0, 1])
    evidence = by_variant(CONTROL, shuffled)["kd"].evidence
    test = stats.ttest_rel([0.94, 0.93, 0.98], [0.90, 0.91, 0.95])
    paired = test.confidence_interval(0.95)
    interval = (evidence.control_difference_low, evidence.control_difference_high)
    assert evidence.control_difference == pytest.approx(0.03)
    assert interval == pytest.approx((paired.low, paired.high))
    assert evidence.control_p == pytest.approx(test.pvalue)


def test_every_variant_is_tested_against_its_own_control() -> None:
    wide_control = student("hard-labels-of-wide", [0.92, 0.95, 0.96], control="hard-labels-of-wide")
    wide = student("wide", [0.93, 0.94, 0.99], control="hard-labels-of-wide")
    rows = by_variant(CONTROL, KD, wide_control, wide)
    for variant, control in ((KD, CONTROL), (wide, wide_control)):
        values = (each.per_seed["val/accuracy"] for each in (variant, control))
        assert rows[variant.variant].evidence.control_p == pytest.approx(stats.ttest_rel(*values).pvalue)


def test_a_difference_without_equal_seeds_has_no_interval() -> None:
    evidence = by_variant(CONTROL, student("kd", [0.94, 0.96]))["kd"].evidence
    assert evidence.control_difference == pytest.approx(0.03)
    assert evidence.control_difference_low is evidence.control_difference_high is evidence.control_p is None


@given(st.lists(st.integers(0, 287), min_size=2, max_size=5), st.integers(0, 1))
def test_equal_differences_have_neither_an_interval_nor_a_p_value(counts: list[int], more: int) -> None:
    # On digits, label smoothing classified one more of 288 images at each of three seeds. An interval of no width,
    # [0.00347, 0.00347], would exclude 0.
    control, other = ([(count + extra) / 288 for count in counts] for extra in (0, more))
    evidence = by_variant(student("hard-labels", control), student("smoothed", other))["smoothed"].evidence
    assert evidence.control_difference == pytest.approx(more / 288)
    assert evidence.control_difference_low is evidence.control_difference_high is evidence.control_p is None


def test_equal_seeds_have_no_interval() -> None:
    kd = by_variant(student("kd", [0.9, 0.9, 0.9]))["kd"]
    assert kd.std == pytest.approx(0)
    assert kd.low is kd.high is None


def test_there_is_no_difference_without_another_finished_control() -> None:
    assert by_variant(CONTROL, KD)["hard-labels"].evidence.control_difference is None
    assert by_variant(KD)["kd"].evidence.control_difference is None
    assert by_variant(KD, failed("hard-labels"))["kd"].evidence.control_difference is None


def test_one_seed_has_no_spread() -> None:
    kd = by_variant(student("hard-labels", [0.9]), student("kd", [0.95]))["kd"]
    assert kd.accuracy == 0.95
    assert kd.evidence.control_difference == pytest.approx(0.05)
    assert kd.std is kd.low is kd.high is kd.evidence.control_difference_low is kd.evidence.control_p is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_winner_has_rank_one_and_every_student_has_a_row(accuracies: list[list[float]]) -> None:
    students = [student(f"v{index}", values) for index, values in enumerate(accuracies)]
    rows = leaderboard(students)
    assert rows[0].student is winner(students)
    assert [row.rank for row in rows] == list(range(1, len(students) + 1))
    assert sorted(row.student.variant for row in rows) == sorted(each.variant for each in students)
    means = [row.student.accuracy for row in rows]
    assert all(second - first < 1e-11 for first, second in pairwise(means))


def costly(variant: str, accuracy: float, parameters: int, flops: float, **fields: RunStatus) -> StudentResult:
    costs = {"cost/flops": flops, "size/file_mb": 0.25, "cost/memory_mb": 1.5, "latency/p50_ms": 0.125}
    return student(variant, [accuracy], parameters=parameters, metrics={"val/accuracy": accuracy, **costs}, **fields)


def test_costs_are_in_the_units_of_the_table_and_older_runs_have_none() -> None:
    rows = by_variant(costly("hard-labels", 0.9, 100, 2_500_000), student("old", [0.8]))
    costs = rows["hard-labels"].costs
    assert (costs.file_mb, costs.mflops, costs.memory_mb, costs.p50_ms) == (0.25, 2.5, 1.5, 0.125)
    assert rows["hard-labels"].efficient
    costs = rows["old"].costs
    assert costs.file_mb is costs.mflops is costs.memory_mb is costs.p50_ms is rows["old"].efficient is None
    assert costs.parameters == 100


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([("a", 0.9, 100, 100), ("b", 0.8, 50, 100), ("c", 0.8, 60, 100)], ["a", "b"]),
        ([("a", 0.9, 100, 100), ("b", 0.9, 100, 100)], ["a", "b"]),  # equal students do not exclude each other
        ([("a", 0.9, 100, 100), ("b", 0.9, 100, 99)], ["b"]),
        ([("a", 0.9, 100, 50), ("b", 0.8, 90, 60), ("c", 0.7, 95, 55)], ["a", "b", "c"]),
        ([("a", 0.1 + 0.2, 100, 100), ("b", 0.3, 100, 100)], ["a", "b"]),  # the means differ in the last bit
    ],
)
def test_pareto_front(points: list[tuple[str, float, int, float]], front: list[str]) -> None:
    rows = leaderboard([costly(*point) for point in points])
    assert sorted(row.student.variant for row in rows if row.efficient) == front


def test_students_that_failed_or_have_no_costs_neither_are_on_the_front_nor_exclude_others() -> None:
    best_but_failed = costly("broken", 1.0, 1, 1, status=RunStatus.FAILED)
    rows = by_variant(costly("a", 0.9, 100, 100), student("old", [0.99], parameters=1), best_but_failed)
    assert rows["a"].efficient
    assert rows["old"].efficient is rows["broken"].efficient is None


POINTS = st.lists(
    st.tuples(st.sampled_from([0.5, 0.6, 0.7]), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=8
)


@given(POINTS)
def test_the_front_dominates_every_other_student(points: list[tuple[float, int, int]]) -> None:
    students = [costly(f"v{index}", *point) for index, point in enumerate(points)]
    rows = by_variant(*students)
    front = [point for index, point in enumerate(points) if rows[f"v{index}"].efficient]
    assert front
    for accuracy, parameters, flops in points:
        dominated = any(
            (a >= accuracy and p <= parameters and f <= flops) and (a, p, f) != (accuracy, parameters, flops)
            for a, p, f in front
        )
        assert dominated == ((accuracy, parameters, flops) not in front)
    best = winner(students)
    assert best is not None
    fewest_flops = min(f for a, p, f in points if a == best.accuracy and p == best.parameters)
    assert rows[best.variant].efficient == (best.metrics["cost/flops"] == fewest_flops)
