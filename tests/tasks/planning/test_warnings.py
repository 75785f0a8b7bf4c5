"""Warnings before training, with their numbers."""

import numpy as np
import pytest

from kdmodels.evaluation.chance import compare_with_chance
from tasks.planning.warnings import at_chance, few_examples, few_inner_examples


def test_the_warning_about_few_examples_states_the_smallest_difference() -> None:
    (warning,) = few_examples(288, None)
    assert warning == (
        "288 validation examples are few: if two variants differ by less than 5.4 points, the difference is probably "
        "not significant (McNemar's exact test finds it in less than 80 % of comparisons, if the variants disagree on "
        "10 % of the examples). Use more examples, or data.folds: 5, which validates on all training images"
    )
    assert few_examples(20, 5)[0].endswith("of the examples). Use more examples")


@pytest.mark.parametrize(("n", "is_few"), [(5, True), (330, True), (350, False), (1_000, False), (1_000_000, False)])
def test_examples_are_few_if_a_difference_of_5_points_is_missed(n: int, is_few: bool) -> None:
    assert bool(few_examples(n, None)) is is_few


def test_a_search_on_few_examples_has_a_warning() -> None:
    assert few_inner_examples(16) == [
        "tune: each trial is measured on only 16 labelled training images, so one image changes its accuracy by 6.2 "
        "points. The choice among the trials is largely chance. Use more labels, or tune: null"
    ]
    assert few_inner_examples(100) == []


def test_the_warning_about_a_teacher_states_its_accuracy_and_that_of_chance() -> None:
    labels = np.repeat(np.arange(10), 30)
    assert at_chance("teacher", compare_with_chance(60, labels)) == []
    (warning,) = at_chance("teacher", compare_with_chance(33, labels))
    assert warning.startswith(
        "teacher: its validation accuracy is not significantly better than chance (11.00 % of 300 examples are "
        "correct, the most frequent class has 10.00 %, one-sided p = 0.308). Students learn little"
    )
