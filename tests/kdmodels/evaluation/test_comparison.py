"""The comparison of two models."""

import numpy as np
import pytest

from kdmodels.evaluation.candidate import Candidate
from kdmodels.evaluation.comparison import compare, compare_on_shared_classes
from kdmodels.evaluation.looks import Look

LABELS = np.repeat(["cat", "owl"], [90, 10])


def model(name: str, wrong: int, classes: tuple[str, ...] = ("cat", "owl")) -> Candidate:
    return Candidate(name, np.arange(100) >= wrong, LABELS, classes, 10, 1, 1.0)


def test_a_comparison_for_the_record_is_two_sided_and_decides_nothing() -> None:
    comparison = compare(model("kd", 0), model("control", 5), None)
    assert (comparison.b, comparison.c, comparison.difference) == (5, 0, 0.05)
    assert comparison.p_value == pytest.approx(2 / 2**5)
    assert (comparison.better, comparison.worse, comparison.decides) == (False, False, False)
    assert str(comparison).endswith("p = 0.062")


def test_a_comparison_at_a_look_is_one_sided_at_the_level_of_the_look() -> None:
    comparison = compare(model("kd", 0), model("v1", 5), Look(1, 1))
    assert (comparison.p_better, comparison.level, comparison.better) == (1 / 2**5, 0.05, True)
    assert str(comparison).startswith("+5.00 points on 100 test examples, 95% interval ")
    assert not compare(model("kd", 0), model("v1", 5), Look(30, 365)).better


def test_examples_of_classes_that_the_champion_does_not_know_are_left_out() -> None:
    comparison = compare_on_shared_classes(model("kd", 0), model("v1", 5, ("cat",)), Look(1, 1))
    assert comparison is not None
    assert (comparison.n, comparison.b) == (90, 5)
    assert compare_on_shared_classes(model("kd", 0), model("v1", 5, ("dog",)), Look(1, 1)) is None
