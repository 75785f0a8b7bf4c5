"""The bias correction, against a search over many shifts."""

import numpy as np
import pytest

from kdmodels.evaluation.class_shift import best_shift


def errors(logits: np.ndarray, labels: np.ndarray, classes: list[int], shift: float) -> int:
    moved = logits.copy()
    for row in moved:
        for code in classes:
            row[code] += shift
    return sum(int(row.argmax() != label) for row, label in zip(moved, labels, strict=True))


@pytest.mark.parametrize("classes", [[3], [1, 4]])
@pytest.mark.parametrize("seed", range(8))
def test_no_other_shift_has_fewer_errors(seed: int, classes: list[int]) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, 40)
    logits = generator.normal(size=(40, 5)) + 2 * np.eye(5)[labels]
    logits[:, classes] -= generator.normal(scale=5)
    best = errors(logits, labels, classes, best_shift(logits, labels, classes))
    assert best == min(errors(logits, labels, classes, shift) for shift in np.linspace(-20, 20, 4001))


def test_equal_margins_are_passed_together() -> None:
    logits = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert best_shift(logits, np.array([0, 0, 1]), [0]) == 2.0
    assert best_shift(logits, np.array([0, 1, 1]), [0]) == 0.0


def test_the_middle_of_the_widest_best_interval_is_chosen() -> None:
    logits = np.array([[0.0, 1.0], [0.0, 9.0]])
    assert best_shift(logits, np.array([0, 1]), [0]) == 5.0
