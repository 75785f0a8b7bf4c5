"""Figures by class, against counts by hand and scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support

from kdmodels.evaluation.predictions import ClassFigures, by_class, macro

CLASSES = ["cat", "dog", "owl"]


def test_the_figures_of_a_small_confusion_matrix() -> None:
    # 3 of 4 cats are right, the other is predicted as a dog. 1 of 2 dogs is right. The owl is predicted as a cat.
    labels, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0, 0])
    cat, dog, owl = by_class(predicted, labels, CLASSES)
    assert cat == ClassFigures("cat", 4, accuracy=3 / 4, precision=3 / 5, f1=pytest.approx(2 / 3))
    assert dog == ClassFigures("dog", 2, accuracy=1 / 2, precision=1 / 2, f1=pytest.approx(1 / 2))
    assert list(dog.record()) == ["class", "examples", "accuracy", "precision", "f1"]
    assert (owl.examples, owl.accuracy, owl.f1) == (1, 0, 0)
    assert np.isnan(owl.precision)  # no example is predicted as an owl
    assert macro([cat, dog, owl]) == {
        "macro_accuracy": pytest.approx(5 / 12),
        "macro_f1": pytest.approx((2 / 3 + 1 / 2) / 3),
    }


def test_a_class_without_examples_is_not_part_of_the_mean() -> None:
    rows = by_class(np.array([0, 1]), np.array([0, 1]), CLASSES)
    assert rows[2].examples == 0
    assert np.isnan([rows[2].accuracy, rows[2].precision, rows[2].f1]).all()
    assert macro(rows) == {"macro_accuracy": 1.0, "macro_f1": 1.0}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_macro_figures_are_scikit_learns_balanced_accuracy_and_macro_f1(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    figures = macro(by_class(predicted, labels, CLASSES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes that are predicted but have no examples
        assert figures["macro_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
        assert figures["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), min_size=1, max_size=30))
def test_figures_by_class_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    classes = [f"class {number}" for number in range(6)]  # the last class never has an example
    rows = by_class(predicted, labels, classes)
    expected = precision_recall_fscore_support(labels, predicted, labels=range(6), zero_division=np.nan)
    for name, values in zip(("precision", "accuracy", "f1", "examples"), expected, strict=True):
        np.testing.assert_allclose([getattr(row, name) for row in rows], values)
