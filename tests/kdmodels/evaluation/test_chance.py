"""A classifier against the prediction of the most frequent class."""

import numpy as np
import pytest
from scipy import stats

from kdmodels.evaluation.chance import compare_with_chance

LABELS = np.repeat(["cat", "owl", "dog"], [50, 30, 20])


@pytest.mark.parametrize("correct", [0, 1, 50, 58, 59, 100])
def test_the_p_value_is_that_of_the_exact_binomial_test(correct: int) -> None:
    chance = compare_with_chance(correct, LABELS)
    expected = stats.binomtest(correct, 100, 0.5, alternative="greater").pvalue
    assert (chance.n, chance.share, chance.p_value) == (100, 0.5, pytest.approx(expected))
    assert chance.better == (expected < 0.05)


def test_a_constant_prediction_is_never_better_than_chance() -> None:
    assert not compare_with_chance(50, LABELS).better
    assert not compare_with_chance(10, np.repeat("cat", 10)).better  # no other class could have been predicted


def test_chance_in_words() -> None:
    assert str(compare_with_chance(55, LABELS)) == (
        "55.00 % of 100 examples are correct, the most frequent class has 50.00 %, one-sided p = 0.184"
    )
    assert str(compare_with_chance(90, LABELS)).endswith("one-sided p < 0.001")
