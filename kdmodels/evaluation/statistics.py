"""Confidence intervals and paired tests for the leaderboard and the promotion gate.

Every confidence level is two-sided. A one-sided 95 % bound is therefore one end of the two-sided 90 % interval. The
distributions come from `scipy.special`, because importing `scipy.stats` takes a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, ndtri, stdtr, stdtrit

from kdmodels.evaluation.correctness import check_correct

Interval = tuple[float, float]


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (ddof 1). The standard deviation of one value is `None`.

    Raises:
        ValueError: There are no values.

    >>> mean_and_std([1.0, 2.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_std([0.5])
    (0.5, None)
    """
    if len(values) == 0:
        raise ValueError("the mean of no values is not defined")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return Student's t interval for the mean of independent values, such as the accuracies of seeds.

    The result is `None` for a single value and if all values are equal. For equal values, an interval of width 0 would
    wrongly suggest certainty.

    Raises:
        ValueError: There are no values, or the confidence is outside (0, 1).

    References:
        Student, "The probable error of a mean", 1908.

    >>> [round(end, 3) for end in t_interval([0.5, 0.6])]
    [-0.085, 1.185]
    >>> t_interval([0.5, 0.5])
    """
    _check_confidence(confidence)
    mean, error = _mean_and_error(values)
    if error is None:
        return None
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * error
    return mean - half, mean + half


def t_test(values: Sequence[float]) -> float | None:
    """Return the two-sided p-value of Student's t test. The null hypothesis is that independent values have mean 0.

    If the values are differences of pairs, this is the paired t test. The p-value is below 0.05 if and only if the 95 %
    `t_interval` excludes 0. The result is `None` for a single value and if all values are equal.

    Raises:
        ValueError: There are no values.

    References:
        Student, "The probable error of a mean", 1908.

    >>> round(t_test([1.0, 2.0, 3.0]), 4)
    0.0742
    >>> t_test([0.5, 0.5])
    """
    mean, error = _mean_and_error(values)
    return None if error is None else 2 * float(stdtr(len(values) - 1, -abs(mean) / error))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values with Holm's correction for the number of tests.

    If every test with a corrected p-value below 0.05 is called significant, the probability of at least one false
    positive is at most 5 %.

    Args:
        p_values: The p-value of each test. `None` if a test could not be carried out. Such a test is not
            counted.

    Returns:
        The corrected p-values, in the same order. `None` stays `None`.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, index) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        corrected[index] = least
    return corrected


def resampled_means(outcomes: Sequence[np.ndarray], *, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return the mean accuracy of each student in each bootstrap resample of seeds and examples.

    Seeds and examples are both drawn with replacement. All students have the same resampled examples. Students with
    the same number of seeds S also have the same resampled seeds, so that their accuracies can be compared as pairs.
    The variance over seeds is underestimated by the factor 1 - 1 / S, which matters for few seeds.

    Args:
        outcomes: One bool array of shape (S, N) per student. Each element is True if the network of one seed classifies
            one example correctly. S can differ between students.
        resamples: The number of resamples R.
        generator: The generator of random numbers.

    Returns:
        The means, shape (R, V) for V students.

    Raises:
        ValueError: There are no students, or the students have different numbers of examples.

    References:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993, section 13.3: percentile intervals.
    """
    examples = {rows.shape[1] for rows in outcomes}
    if len(examples) != 1:
        raise ValueError(f"expected rows of the same examples, got {sorted(examples)}")
    (n,) = examples
    stacked = np.concatenate(outcomes)  # (all seeds, N)
    always, ever = stacked.all(axis=0), stacked.any(axis=0)
    # All networks agree on most examples. Only the other examples need the matrix product below.
    varied = np.flatnonzero(ever & ~always)
    table = stacked[:, varied].T.astype(np.float32)  # sums of 0 and 1 are exact in float32
    ends = np.cumsum([len(rows) for rows in outcomes])
    most_seeds = max(len(rows) for rows in outcomes)
    means = np.empty((resamples, len(outcomes)))
    chunk = max(1, 2**21 // n)
    for begin in range(0, resamples, chunk):
        size = min(chunk, resamples - begin)
        drawn = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float32)
        hits = (counts[:, varied] @ table).astype(np.float64)
        seed_means = (hits + counts[:, always].sum(axis=1, keepdims=True)) / n  # (size, all seeds)
        draws = generator.random((size, most_seeds))
        for row, end in enumerate(ends):
            seeds = len(outcomes[row])
            picked = end - seeds + (draws[:, :seeds] * seeds).astype(int)
            means[begin : begin + size, row] = np.take_along_axis(seed_means, picked, axis=1).mean(axis=1)
    return means


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for a proportion.

    The interval lies within [0, 1]. Its width is above 0 even if the proportion is 0 or 1.

    Args:
        successes: The number of successes, or the mean number of successes over several seeds on the same n examples.
            For a mean, the interval is wider than necessary, because a mean varies less than a single count.
        n: The number of examples.
        confidence: The two-sided confidence level.

    Raises:
        ValueError: `successes` is not in 0 to n, n is below 1, or the confidence is outside (0, 1).

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    >>> [round(end, 4) for end in wilson_interval(95, 100)]
    [0.8882, 0.9785]
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"not a proportion: {successes} of {n}")
    z, share = float(ndtri(0.5 + confidence / 2)), successes / n
    centre, half = share + z * z / (2 * n), z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return 0.0 if successes == 0 else low, 1.0 if successes == n else high


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two classifiers on the same examples.

    Attributes:
        b: The number of examples that only the challenger classifies correctly.
        c: The number of examples that only the champion classifies correctly.
        p_value: The two-sided p-value. The null hypothesis is that both classifiers have the same accuracy.
        p_better: The one-sided p-value. The null hypothesis is that the challenger's accuracy is not higher.
    """

    b: int
    c: int
    p_value: float
    p_better: float


def mcnemar_exact(challenger_correct: np.ndarray, champion_correct: np.ndarray) -> McNemar:
    """Return McNemar's exact test of two classifiers.

    The test uses only the examples that exactly one of the classifiers predicts correctly. If both classifiers are
    equally accurate, each of these examples is a toss of a fair coin. If the classifiers never disagree, the p-values
    are 1.

    Args:
        challenger_correct: Whether the challenger classifies each example correctly, bool, shape (N,).
        champion_correct: Whether the champion classifies each example correctly, for the same examples in the same
            order, bool, shape (N,).

    Raises:
        ValueError: The vectors are empty, are not boolean, or have different lengths.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947.

    >>> mcnemar_exact(np.array([True, True, True, False]), np.array([False, True, False, False]))
    McNemar(b=2, c=0, p_value=0.5, p_better=0.25)
    """
    check_correct(challenger_correct)
    check_correct(champion_correct)
    if challenger_correct.size != champion_correct.size:
        raise ValueError(f"not the same examples: {challenger_correct.size} against {champion_correct.size}")
    b = int(np.sum(challenger_correct & ~champion_correct))
    c = int(np.sum(champion_correct & ~challenger_correct))
    return McNemar(b, c, min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))), float(bdtr(c, b + c, 0.5)))


def paired_difference_interval(b: int, c: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Tango's score interval for the difference (b - c) / n of two accuracies on the same n examples.

    Unlike the Wald interval, this interval has a width above 0 even if the two classifiers never disagree. Equal
    results on a sample do not prove equal accuracies.

    Args:
        b: The number of examples that only the first classifier predicts correctly.
        c: The number of examples that only the second classifier predicts correctly.
        n: The number of examples.
        confidence: The two-sided confidence level.

    Raises:
        ValueError: One of `b` and `c` is negative, n is below 1, b + c is above n, or the confidence is outside (0, 1).

    References:
        Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design", Statistics in Medicine 17, 1998, section 3.

    >>> [round(end, 3) for end in paired_difference_interval(1, 7, 21)]
    [-0.517, -0.026]
    """
    _check_confidence(confidence)
    if b < 0 or c < 0 or n < 1 or b + c > n:
        raise ValueError(f"not counts of a paired comparison: b={b}, c={c}, n={n}")
    z = float(ndtri(0.5 + confidence / 2))
    return _tango_lower(b, c, n, z), -_tango_lower(c, b, n, z)


def _tango_lower(b: int, c: int, n: int, z: float) -> float:
    """Return the lower end of Tango's interval: the difference below (b - c) / n whose score statistic is z.

    The function uses bisection, down to the precision of floating-point numbers. `scipy.optimize` is not used, because
    its import takes as long as the rest of a promotion.
    """
    low, high = -1.0, (b - c) / n
    while low < (middle := (low + high) / 2) < high:
        excess, error = _tango_score(middle, b, c, n)
        low, high = (middle, high) if excess > z * error else (low, middle)
    return high


def _tango_score(difference: float, b: int, c: int, n: int) -> Interval:
    """Return the numerator and the denominator of Tango's score statistic for a difference of two accuracies.

    The numerator is b - c - n * difference. The denominator is the standard error of the numerator.
    """
    # The maximum likelihood estimate of P(only the second is correct), if the accuracies differ by `difference`.
    # The estimate is a root of a x^2 + p x + q.
    a, p, q = 2 * n, (2 * n - b + c) * difference - b - c, -c * difference * (1 - difference)
    only_second = (np.sqrt(max(p * p - 4 * a * q, 0.0)) - p) / (2 * a)
    variance = n * (2 * only_second + difference * (1 - difference))
    return b - c - n * difference, float(np.sqrt(max(variance, 0.0)))


def _mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of values, and its standard error. If the values have no spread, the error is `None`."""
    mean, std = mean_and_std(values)
    if not std or min(values) == max(values):  # rounding can give equal values a deviation of 1e-17
        return mean, None
    return mean, std / len(values) ** 0.5


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
