"""Intervals and paired tests on plain numbers: what the leaderboard and the gate reason with.

Confidence is two-sided everywhere: the one-sided 95 % bound is an end of the 90 % interval.
scipy.stats takes a second to import, so each function imports what it uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the sample standard deviation (ddof 1), which is None for one value: one value has no spread.

    Raises:
        ValueError: no values.

    >>> mean_and_std([1.0, 2.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_std([0.5])
    (0.5, None)
    """
    if len(values) == 0:
        raise ValueError("the mean of no values")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's t interval for the mean of independent values, such as seeds; None where they have no spread.

    One value has none. Equal values have shown none, and an interval of width zero would be sure of their mean.

    Raises:
        ValueError: no values, or a confidence outside (0, 1).

    >>> [round(end, 3) for end in t_interval([0.5, 0.6])]
    [-0.085, 1.185]
    >>> t_interval([0.5, 0.5])
    """
    from scipy.special import stdtrit

    _check_confidence(confidence)
    mean, error = _mean_and_error(values)
    if error is None:
        return None
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * error
    return mean - half, mean + half


def t_test(values: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's t test that independent values have mean 0; None where they have no spread.

    Of differences of pairs it is the paired test. It is below 0.05 where the 95 % `t_interval` excludes 0.

    Raises:
        ValueError: no values.
    References:
        Student, "The probable error of a mean", 1908.

    >>> round(t_test([1.0, 2.0, 3.0]), 4)
    0.0742
    >>> t_test([0.5, 0.5])
    """
    from scipy.special import stdtr

    mean, error = _mean_and_error(values)
    return None if error is None else 2 * float(stdtr(len(values) - 1, -abs(mean) / error))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number: so many tests together call a true null false in at most 5 % at 0.05.

    None, where a test could not be made, stays None and does not count.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    given = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(given):
        least = max(least, min(1.0, (len(given) - rank) * p))
        corrected[place] = least
    return corrected


def resampled_means(outcomes: Sequence[np.ndarray], *, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Each row's mean over its seeds and the examples, drawn anew with replacement so many times: (resamples, V).

    It is the bootstrap of both. All rows get the same examples and, where they have as many seeds, the same of them in
    order, so that the differences between rows are those of pairs. Seeds are few, which makes their part of the spread
    too small: by the factor 1 - 1 / S in variance.

    Args:
        outcomes: V arrays (S, N), each seed's outcome on each example: whether it is right. S may differ.
    Raises:
        ValueError: no rows, or not of the same examples.
    References:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993, section 13.3: percentile intervals.
    """
    examples = {rows.shape[1] for rows in outcomes}
    if len(examples) != 1:
        raise ValueError(f"expected rows of the same examples, got {sorted(examples)}")
    (n,) = examples
    stacked = np.concatenate(outcomes)  # (all seeds, N)
    always, ever = stacked.all(axis=0), stacked.any(axis=0)
    varied = np.flatnonzero(ever & ~always)  # most examples are easy for all, and need no product
    table = stacked[:, varied].T.astype(np.float32)  # whose sums are exact
    ends = np.cumsum([len(rows) for rows in outcomes])
    most = max(len(rows) for rows in outcomes)
    means = np.empty((resamples, len(outcomes)))
    chunk = max(1, 2**21 // n)
    for begin in range(0, resamples, chunk):
        size = min(chunk, resamples - begin)
        drawn = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float32)
        hits = (counts[:, varied] @ table).astype(np.float64)
        of_seeds = (hits + counts[:, always].sum(axis=1, keepdims=True)) / n
        places = generator.random((size, most))
        for row, end in enumerate(ends):
            seeds = len(outcomes[row])
            picked = end - seeds + (places[:, :seeds] * seeds).astype(int)
            means[begin : begin + size, row] = np.take_along_axis(of_seeds, picked, axis=1).mean(axis=1)
    return means


def _mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, None where the values have no spread."""
    mean, std = mean_and_std(values)
    if not std or min(values) == max(values):  # the deviation of equal values may be 1e-17
        return mean, None
    return mean, std / len(values) ** 0.5


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion, within [0, 1] and of honest width near 0 and 1.

    `successes` may be a mean of counts, as of several seeds on the same n examples; the interval is too wide then
    rather than too narrow, for a mean varies less than one of them.

    Raises:
        ValueError: counts that are not 0 <= successes <= n with n >= 1, or a confidence outside (0, 1).

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    >>> [round(end, 4) for end in wilson_interval(95, 100)]
    [0.8882, 0.9785]
    """
    from scipy.special import ndtri

    _check_confidence(confidence)
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"not a share: {successes} of {n}")
    z, share = float(ndtri(0.5 + confidence / 2)), successes / n
    centre, half = share + z * z / (2 * n), z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return 0.0 if successes == 0 else low, 1.0 if successes == n else high


@dataclass(frozen=True)
class McNemar:
    """How two classifiers disagree on the same examples.

    b: examples that the challenger alone gets right; c: those that the champion alone gets right.
    p_value: two-sided, of the hypothesis that the two are right equally often.
    p_better: one-sided, of the hypothesis that the challenger is right no more often.
    """

    b: int
    c: int
    p_value: float
    p_better: float


def check_correct(correct: np.ndarray) -> None:
    """Raise ValueError for what does not say of each example whether it was got right: (N,) bool, N >= 1."""
    if correct.dtype != np.bool_ or correct.ndim != 1 or correct.size == 0:
        raise ValueError(f"expected a boolean vector that is not empty, got {correct.dtype} {correct.shape}")


def mcnemar_exact(challenger_correct: np.ndarray, champion_correct: np.ndarray) -> McNemar:
    """McNemar's exact test: whether b of b + c disagreements is a fair coin; p is 1 where the two never disagree.

    Args:
        challenger_correct, champion_correct: (N,) bool, the same examples in the same order.
    Raises:
        ValueError: not boolean vectors, empty, or of different length.
    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947.

    >>> mcnemar_exact(np.array([True, True, True, False]), np.array([False, True, False, False]))
    McNemar(b=2, c=0, p_value=0.5, p_better=0.25)
    """
    from scipy.special import bdtr

    check_correct(challenger_correct)
    check_correct(champion_correct)
    if challenger_correct.size != champion_correct.size:
        raise ValueError(f"not the same examples: {challenger_correct.size} against {champion_correct.size}")
    b = int(np.sum(challenger_correct & ~champion_correct))
    c = int(np.sum(champion_correct & ~challenger_correct))
    return McNemar(b, c, min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))), float(bdtr(c, b + c, 0.5)))


def paired_difference_interval(b: int, c: int, n: int, confidence: float = 0.95) -> Interval:
    """Tango's score interval for the difference (b - c) / n of two proportions of the same n examples.

    Unlike the Wald interval it has a width where the two never disagree: no difference seen is not no difference.

    Args:
        b, c: disagreements in favour of the first and of the second; n: examples.
    Raises:
        ValueError: counts that are not b, c >= 0 and b + c <= n with n >= 1, or a confidence outside (0, 1).
    References:
        Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design", Statistics in Medicine 17, 1998, section 3.

    >>> [round(end, 3) for end in paired_difference_interval(1, 7, 21)]
    [-0.517, -0.026]
    """
    from scipy.special import ndtri

    _check_confidence(confidence)
    if b < 0 or c < 0 or n < 1 or b + c > n:
        raise ValueError(f"not counts of a paired comparison: b={b}, c={c}, n={n}")
    z = float(ndtri(0.5 + confidence / 2))
    return _tango_lower(b, c, n, z), -_tango_lower(c, b, n, z)


def _tango_lower(b: int, c: int, n: int, z: float) -> float:
    """The difference below the observed one at which the score statistic is z, by bisection to the last bit.

    A few lines instead of `scipy.optimize`, which takes as long to import as the rest of a promotion takes.
    """
    low, high = -1.0, (b - c) / n
    while low < (middle := (low + high) / 2) < high:
        excess, error = _tango_score(middle, b, c, n)
        low, high = (middle, high) if excess > z * error else (low, middle)
    return high


def _tango_score(difference: float, b: int, c: int, n: int) -> Interval:
    """Tango's statistic in two parts: the excess over a difference, in examples, and its standard error under it."""
    # The likelihood's maximum over P(second alone right), given the difference: the root of a x^2 + p x + q.
    a, p, q = 2 * n, (2 * n - b + c) * difference - b - c, -c * difference * (1 - difference)
    second_alone = (np.sqrt(max(p * p - 4 * a * q, 0.0)) - p) / (2 * a)
    variance = n * (2 * second_alone + difference * (1 - difference))
    return b - c - n * difference, float(np.sqrt(max(variance, 0.0)))


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """How far the share of right answers is from what the classifier promises, in 0 to 1.

    Examples are put into bins of equal width by their confidence; in each the gap is that between its accuracy and its
    mean confidence, and the error is the mean gap over examples. On few examples it is too high rather than too low.

    Args:
        confidences: (N,), the probability of the predicted class. correct: (N,) bool.
    Raises:
        ValueError: `correct` is not a boolean vector or is empty, or there are not as many confidences in 0 to 1.
    References:
        Guo et al., "On calibration of modern neural networks", 2017, section 2.

    >>> expected_calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([True, True, True, False]))
    0.0
    """
    check_correct(correct)
    if confidences.shape != correct.shape or not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError(f"expected {correct.shape} confidences in 0 to 1, got {confidences.shape}")
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)  # a bin has its upper border
    return float(np.abs(np.bincount(places, correct - confidences)).sum() / correct.size)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
