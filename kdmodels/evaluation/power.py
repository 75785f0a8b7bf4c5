"""The smallest difference between the accuracies of two variants that a test on n examples can find.

The variants are compared with McNemar's exact two-sided test. The test uses only disagreements. A disagreement is an
example that exactly one of the two variants classifies correctly.
"""

import numpy as np
from scipy.special import bdtr, bdtrik

LEVEL = 0.05  # the significance level of the test
POWER = 0.8  # the usual probability with which a test should find a difference that exists
DISAGREEMENT = 0.1  # the assumed share of the examples on which two variants disagree


def power(n: int, difference: float, disagreement: float = DISAGREEMENT) -> float:
    """Return the probability that McNemar's exact test finds a difference between two variants.

    The number m of disagreements has the distribution Binomial(n, disagreement). The number of disagreements that the
    better variant classifies correctly has the distribution Binomial(m, (1 + difference / disagreement) / 2). Let c be
    the largest number with 2 P(X <= c) < 5 % for X ~ Binomial(m, 1/2). The test is significant if one of the variants
    classifies at most c disagreements correctly.

    Args:
        n: The number of examples.
        difference: The difference of the accuracies, from 0 to `disagreement`.
        disagreement: The share of the examples on which the variants disagree, above 0 and at most 1.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947.

    >>> round(power(288, 0.05), 2), round(power(1000, 0.05), 2)
    (0.72, 1.0)
    """
    m = np.arange(n + 1)
    m = m[0.5**m < LEVEL / 2]  # with fewer disagreements, no result is significant
    critical = np.floor(bdtrik(LEVEL / 2, m.astype(float), 0.5))
    wins = (1 + difference / disagreement) / 2
    significant = bdtr(critical, m, wins) + bdtr(critical, m, 1 - wins)
    chances = bdtr(m, n, disagreement) - bdtr(m - 1, n, disagreement)
    return float(chances @ significant)


def detectable_difference(n: int) -> float:
    """Return the smallest difference of two accuracies that the test finds with a probability of 80 %.

    The variants are assumed to disagree on 10 % of the examples. For a difference above 10 %, the better variant is
    assumed to classify all disagreements correctly. If n is too small to find any difference, the result is 1.

    Args:
        n: The number of examples.

    >>> round(detectable_difference(288), 3), round(detectable_difference(1000), 3)
    (0.054, 0.029)
    """
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        is_detectable = power(n, middle, max(middle, DISAGREEMENT)) >= POWER
        low, high = (low, middle) if is_detectable else (middle, high)
    return high
