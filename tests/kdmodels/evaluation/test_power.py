"""The power of McNemar's exact test, against simulated comparisons."""

import numpy as np
import pytest

from kdmodels.evaluation.power import DISAGREEMENT, POWER, detectable_difference, power
from kdmodels.evaluation.statistics import mcnemar_exact

REPEATS = 4_000


def simulated_power(n: int, difference: float, disagreement: float) -> float:
    """Return how often two simulated variants differ significantly."""
    generator = np.random.default_rng(n)
    shares = [(disagreement + difference) / 2, (disagreement - difference) / 2, 1 - disagreement]
    found = 0
    for wins, losses, _ in generator.multinomial(n, shares, size=REPEATS):
        better, worse = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        better[:wins], worse[wins : wins + losses] = True, True
        found += mcnemar_exact(better, worse).p_value < 0.05
    return found / REPEATS


@pytest.mark.parametrize(
    ("n", "difference", "disagreement"), [(288, 0.05, 0.1), (288, 0.0, 0.1), (60, 0.2, 0.4), (1000, 0.02, 0.05)]
)
def test_the_power_is_that_of_simulated_comparisons(n: int, difference: float, disagreement: float) -> None:
    expected = simulated_power(n, difference, disagreement)
    assert power(n, difference, disagreement) == pytest.approx(expected, abs=4 * 0.5 / REPEATS**0.5)


@pytest.mark.parametrize("n", [12, 50, 100, 288, 1000])
def test_the_detectable_difference_is_found_in_80_percent_of_simulated_comparisons(n: int) -> None:
    difference = detectable_difference(n)
    found = simulated_power(n, difference, max(difference, DISAGREEMENT))
    assert found == pytest.approx(POWER, abs=4 * 0.4 / REPEATS**0.5)


def test_more_examples_show_smaller_differences() -> None:
    differences = [detectable_difference(n) for n in (8, 20, 80, 300, 1000, 3000)]
    assert differences == sorted(differences, reverse=True)


@pytest.mark.parametrize("n", [1, 5, 6])
def test_very_few_examples_show_nothing(n: int) -> None:
    """6 disagreements with the same winner are the fewest that are significant: p = 2 / 2^6 = 0.031."""
    assert power(n, 0.5, 0.5) == (pytest.approx(0.5**6) if n == 6 else 0)
    assert detectable_difference(5) == 1
