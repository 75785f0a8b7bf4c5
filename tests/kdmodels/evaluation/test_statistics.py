"""The statistics, against hand-computed literals, scipy, published values and exact enumeration."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdmodels.evaluation.statistics import (
    holm,
    mcnemar_exact,
    mean_and_std,
    paired_difference_interval,
    resampled_means,
    t_interval,
    t_test,
    wilson_interval,
)

accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@st.composite
def paired_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 2000))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


def correct_vectors(b: int, c: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two vectors with these disagreements, which agree on the rest."""
    both = [index % 2 == 0 for index in range(n - b - c)]
    return np.array([True] * b + [False] * c + both), np.array([False] * b + [True] * c + both)


def test_mean_and_std_by_hand() -> None:
    assert mean_and_std([0.90, 0.92, 0.97]) == pytest.approx((0.93, math.sqrt(0.0013)))
    assert mean_and_std([0.9]) == (0.9, None)
    with pytest.raises(ValueError, match="no values"):
        mean_and_std([])


def test_t_interval_of_a_textbook_sample() -> None:
    # 2 degrees of freedom: t_0.975 = 4.302653 in every table.
    half = 4.302653 * math.sqrt(0.0013) / math.sqrt(3)
    assert t_interval([0.90, 0.92, 0.97]) == pytest.approx((0.93 - half, 0.93 + half), abs=1e-7)


@given(accuracies, st.floats(0.5, 0.999))
def test_t_interval_agrees_with_scipy(values: list[float], confidence: float) -> None:
    ours = t_interval(values, confidence)
    if np.std(values) > 1e-9:  # scipy's is NaN without spread
        scipy_interval = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert ours == pytest.approx(scipy_interval)
    assert ours is None or ours[0] <= np.mean(values) <= ours[1]


def test_t_test_of_a_textbook_sample() -> None:
    # 2 degrees of freedom: the distribution function is 1/2 + t / (2 sqrt(2 + t^2)), and here t is 2 sqrt(3).
    t = 2 * math.sqrt(3)
    assert t_test([1, 2, 3]) == t_test([-1, -2, -3]) == pytest.approx(1 - t / math.sqrt(2 + t * t))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_t_test_agrees_with_scipy_and_with_the_interval(values: list[float]) -> None:
    p, interval = t_test(values), t_interval(values)
    assert (p is None) == (interval is None)
    if p is None or interval is None or np.std(values) < 1e-9:
        return
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (not interval[0] <= 0 <= interval[1])


@given(st.floats(-1, 1), st.integers(1, 9))
def test_without_a_spread_there_is_neither_interval_nor_test(value: float, count: int) -> None:
    # np.std of equal values may be 1e-17, and of values 1e-200 apart it is 0.
    assert t_interval([value] * count) is None
    assert t_test([value] * count) is None
    assert t_interval([0.0, 1e-200]) is t_test([0.0, 1e-200]) is None


def test_wilson_of_none_and_all() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    assert wilson_interval(0, 10) == pytest.approx((0, z2 / (10 + z2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + z2), 1))


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_ends_are_where_the_score_test_is_borderline(counts: tuple[int, int], confidence: float) -> None:
    k, n = counts
    low, high = wilson_interval(k, n, confidence)
    assert low - 1e-12 <= k / n <= high + 1e-12
    z = stats.norm.ppf(0.5 + confidence / 2)
    for end in (low, high):
        assert (k - n * end) ** 2 == pytest.approx(z**2 * n * end * (1 - end), abs=1e-6 * n)


def test_mcnemar_by_hand() -> None:
    # 5 disagreements, 1 against 4: two tails of (C(5,0) + C(5,1)) / 2^5 each.
    result = mcnemar_exact(*correct_vectors(4, 1, 40))
    assert (result.b, result.c) == (4, 1)
    assert result.p_value == pytest.approx(12 / 32)


@given(paired_counts())
def test_mcnemar_sums_the_binomial_and_is_symmetric(counts: tuple[int, int, int]) -> None:
    b, c, n = counts
    challenger, champion = correct_vectors(b, c, n)
    result = mcnemar_exact(challenger, champion)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    assert result.p_value == pytest.approx(min(1.0, 2 * tail / 2 ** (b + c)))
    assert 0 <= result.p_value <= 1
    swapped = mcnemar_exact(champion, challenger)
    assert (swapped.b, swapped.c) == (c, b)
    assert swapped.p_value == pytest.approx(result.p_value)


@pytest.mark.parametrize(
    ("challenger", "champion", "message"),
    [
        (np.zeros(3, bool), np.zeros(4, bool), "not the same examples: 3 against 4"),
        (np.zeros(0, bool), np.zeros(0, bool), "not empty"),
        (np.zeros(3, int), np.zeros(3, bool), "boolean"),
        (np.zeros((3, 1), bool), np.zeros((3, 1), bool), "boolean"),
    ],
)
def test_vectors_that_are_no_pair_are_an_error(challenger: np.ndarray, champion: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar_exact(challenger, champion)


def test_tango_published_example() -> None:
    # Bentur et al. 2009 in Fagerland, Lydersen, Laake, "Recommended tests and confidence intervals for paired
    # binomial proportions", 2014: 21 pairs, 1 against 7.
    assert paired_difference_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("n", [1, 20, 10_000])
def test_tango_without_disagreement_is_narrow_but_not_a_point(n: int) -> None:
    # With b = c = 0 the score equation reduces to n d / (1 - d) = z^2.
    z2 = stats.norm.ppf(0.975) ** 2
    assert paired_difference_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)))


@pytest.mark.parametrize("n", [1, 50])
def test_tango_of_total_disagreement(n: int) -> None:
    low, high = paired_difference_interval(n, 0, n)
    assert high == 1
    assert -1 < low < 1
    assert paired_difference_interval(0, n, n) == pytest.approx((-high, -low))


@given(paired_counts(), st.floats(0.5, 0.999))
def test_tango_contains_the_estimate_and_is_symmetric(counts: tuple[int, int, int], confidence: float) -> None:
    b, c, n = counts
    low, high = paired_difference_interval(b, c, n, confidence)
    assert -1 <= low <= (b - c) / n <= high <= 1
    assert paired_difference_interval(c, b, n, confidence) == pytest.approx((-high, -low))


@given(paired_counts().filter(lambda counts: 0 < counts[0] + counts[1] < counts[2]))
def test_tango_ends_maximise_the_constrained_likelihood_at_z(counts: tuple[int, int, int]) -> None:
    """The ends solve (excess)^2 = z^2 variance, with the nuisance parameter found by a search, not by the quadratic."""
    b, c, n = counts
    z = stats.norm.ppf(0.975)
    for difference in paired_difference_interval(b, c, n):
        # The log likelihood is concave in the nuisance parameter: bisect its slope.
        low, high = max(0.0, -difference), (1 - difference) / 2
        for _ in range(100):
            q = (low + high) / 2
            slope = -2 * (n - b - c) / (1 - 2 * q - difference)
            slope += (b / (q + difference) if b else 0) + (c / q if c else 0)
            low, high = (q, high) if slope > 0 else (low, q)
        variance = n * (2 * low + difference * (1 - difference))
        assert abs(b - c - n * difference) == pytest.approx(z * math.sqrt(variance), rel=1e-4, abs=1e-4)


def test_tango_covers_by_exact_enumeration() -> None:
    """The probability of covering the truth, summed over every possible table of 25 examples."""
    n, coverages = 25, []
    tables = [(b, c) for b in range(n + 1) for c in range(n - b + 1)]
    intervals = {table: paired_difference_interval(*table, n) for table in tables}
    for first_alone, second_alone in [(0.02, 0.02), (0.1, 0.05), (0.1, 0.1), (0.2, 0.05), (0.3, 0.1), (0.3, 0.3)]:
        probabilities = stats.multinomial.pmf(
            [(b, c, n - b - c) for b, c in tables], n, [first_alone, second_alone, 1 - first_alone - second_alone]
        )
        truth = first_alone - second_alone
        coverages.append(
            sum(p for p, t in zip(probabilities, tables, strict=True) if intervals[t][0] <= truth <= intervals[t][1])
        )
    assert min(coverages) > 0.93
    assert 0.945 < np.mean(coverages) < 0.985


@pytest.mark.parametrize(("b", "c", "n"), [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_an_error(b: int, c: int, n: int) -> None:
    with pytest.raises(ValueError, match="not counts of a paired comparison"):
        paired_difference_interval(b, c, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_fraction(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        t_interval([0.1, 0.2], confidence)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        paired_difference_interval(1, 0, 2, confidence)


def test_importing_is_cheap() -> None:
    heavy = ("scipy.stats", "torch", "pandas")
    check = f"import sys, kdmodels.evaluation.statistics; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", check], check=False, timeout=60).returncode == 0


@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_agrees_with_its_definition(values: list[float | None]) -> None:
    """A corrected p-value is the lowest level at which the step-down procedure rejects."""
    given = [p for p in values if p is not None]
    for p, corrected in zip(values, holm(values), strict=True):
        if p is None:
            assert corrected is None
        else:
            steps = [(sum(other >= q for other in given)) * q for q in given if q <= p]
            assert corrected == pytest.approx(min(1.0, max(steps)))


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.01, 0.02, 0.04, 0.5: times 6, 5, 4, 3, 2 and 1 they are 0.03, 0.05, 0.04, 0.06, 0.08, 0.5.
    # The second 0.01 may not come out below the first, so its 0.04 is raised to 0.05; the others rise by themselves.
    assert holm([0.01, 0.5, 0.005, 0.04, 0.01, 0.02]) == pytest.approx([0.05, 0.5, 0.03, 0.08, 0.05, 0.06])
    # Without the two that are None, sorted 0.01, 0.03, 0.03, 0.04, 0.6, 0.6, 0.9: times 7 to 1 they are 0.07, 0.18,
    # 0.15, 0.16, 1.8, 1.2 and 0.9. After 0.18 the 0.15 and the 0.16 are raised to 0.18, 1.8 is cut to 1, and what
    # comes after it is raised to 1.
    assert holm([0.6, 0.03, None, 0.9, 0.04, 0.01, 0.6, None, 0.03]) == pytest.approx(
        [1, 0.18, None, 1, 0.18, 0.07, 1, None, 0.18]
    )


def test_holm_errs_in_at_most_five_percent_of_all_families() -> None:
    generator = np.random.default_rng(0)
    families = generator.uniform(size=(4000, 8))
    wrong = np.mean([min(p for p in holm(list(family)) if p is not None) < 0.05 for family in families])
    assert 0.03 < wrong <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_wilson_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    expected = stats.binomtest(*counts).proportion_ci(confidence, method="wilson")
    assert wilson_interval(*counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(paired_counts())
def test_mcnemar_is_scipys_binomial_test(counts: tuple[int, int, int]) -> None:
    b, c, n = counts
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(*correct_vectors(b, c, n)).p_value == pytest.approx(expected)


def test_resampled_means_vary_as_the_theory_says() -> None:
    """One seed varies like a binomial. The variance over S seeds is added, too small by the factor 1 - 1 / S."""
    generator = np.random.default_rng(0)
    one = generator.random((1, 400)) < 0.8
    four = generator.random((4, 400)) < np.array([[0.6], [0.7], [0.8], [0.9]])
    means = resampled_means([one, four], resamples=20_000, generator=np.random.default_rng(1))
    assert means.mean(axis=0) == pytest.approx([one.mean(), four.mean()], abs=0.002)
    share = one.mean()
    assert means[:, 0].std() == pytest.approx((share * (1 - share) / 400) ** 0.5, rel=0.03)
    of_seeds, of_examples = four.mean(axis=1).var() / 4, four.mean(axis=0).var() / 400
    assert means[:, 1].std() == pytest.approx((of_seeds + of_examples) ** 0.5, rel=0.05)


def test_all_students_get_the_same_resampled_examples_and_seeds() -> None:
    """If two students differ in one example of each seed, their difference varies by that example alone."""
    base = np.random.default_rng(0).random((3, 100)) < 0.5
    base[:, 0] = False
    better = base.copy()
    better[:, 0] = True
    means = resampled_means([base, better], resamples=1000, generator=np.random.default_rng(1))
    gains = (means[:, 1] - means[:, 0]) * 100
    assert gains == pytest.approx(gains.round(), abs=1e-4)
    assert gains.mean() == pytest.approx(1, abs=0.1)


def test_resampling_needs_the_same_examples() -> None:
    with pytest.raises(ValueError, match=r"expected rows of the same examples, got \[3, 4\]"):
        resampled_means([np.ones((1, 3), bool), np.ones((1, 4), bool)], resamples=1, generator=np.random.default_rng())
