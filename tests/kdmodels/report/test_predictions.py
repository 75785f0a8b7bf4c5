"""Summaries of predictions, against numbers worked out by hand and by scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import confusion_matrix

from kdmodels.evaluation.calibration import expected_calibration_error
from kdmodels.report.predictions import Bin, class_shares, matrix, most_different, reliability_bins, summarise

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 4, 200)
STUDENT, TEACHER = (GENERATOR.dirichlet(np.ones(4), 200) for _ in range(2))  # (N, K) each


def test_the_confusions_are_those_of_scikit_learn() -> None:
    summary = summarise("student", "kd", STUDENT, LABELS)
    expected = confusion_matrix(LABELS, STUDENT.argmax(axis=1))
    assert (matrix(summary, list("abcd")) == expected).all()
    assert summary.accuracy == pytest.approx(expected.trace() / 200)


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    summary = summarise("student", "kd", STUDENT, LABELS)
    gaps = sum(each.examples * abs(each.confidence - each.accuracy) for each in summary.bins) / 200
    assert summary.calibration_error == pytest.approx(gaps)
    correct = STUDENT.argmax(axis=1) == LABELS
    assert summary.calibration_error == expected_calibration_error(STUDENT.max(axis=1), correct)


def test_a_bin_includes_its_upper_border_and_empty_bins_are_left_out() -> None:
    confidences, correct = np.array([0.2, 0.21, 1.0]), np.array([True, False, True])
    assert reliability_bins(confidences, correct) == [
        Bin(examples=1, confidence=0.2, accuracy=1.0),
        Bin(examples=1, confidence=0.21, accuracy=0.0),
        Bin(examples=1, confidence=1.0, accuracy=1.0),
    ]


def test_the_largest_disagreements_are_those_of_scipy() -> None:
    distances = jensenshannon(STUDENT, TEACHER, axis=1)
    assert most_different(STUDENT, TEACHER, 5) == np.argsort(-distances)[:5].tolist()


def test_equal_distributions_do_not_disagree_and_zeros_are_allowed() -> None:
    one_hot = np.eye(3)
    assert most_different(one_hot, one_hot, 3) == []
    assert most_different(one_hot, one_hot[[1, 0, 2]], 3) == [0, 1]


def test_the_shares_are_those_of_the_likeliest_classes() -> None:
    student, teacher = np.array([0.5, 0.0, 0.3, 0.1, 0.05, 0.05]), np.array([0.01, 0.9, 0.0, 0.05, 0.04, 0.0])
    shares = class_shares(student, teacher)
    assert [(each.index, each.student, each.teacher) for each in shares] == [
        (0, 0.5, 0.01),
        (1, 0.0, 0.9),
        (2, 0.3, 0.0),
        (3, 0.1, 0.05),
    ]
