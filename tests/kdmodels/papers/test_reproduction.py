"""Errors, errors on some classes, and the bias correction of the networks of several seeds."""

from dataclasses import replace

import numpy as np

from kdmodels.papers.reproduction import Predictions

LABELS = np.array([0, 1, 2, 2])


def logits(*predicted: list[int]) -> np.ndarray:
    return np.stack([np.eye(3)[codes] * 4 for codes in predicted])


def predictions() -> Predictions:
    """Two seeds. The first never predicts class c, although its logit is the second largest."""
    test = logits([0, 1, 1, 1], [0, 1, 2, 0])
    test[0, :, 2] = 3
    validation = test.copy()
    return Predictions(["a", "b", "c"], validation, LABELS, test, LABELS)


def test_errors_are_counted_for_each_seed_and_class() -> None:
    found = predictions()
    assert found.errors == [2, 1]
    assert found.accuracy == [50, 75]
    assert found.errors_of(["c"]) == [2, 1]
    assert found.errors_of(["a", "b"]) == [0, 0]


def test_the_correction_of_each_seed_is_chosen_on_validation_alone() -> None:
    found = predictions()
    moved = found.shifted(["c"]).test - found.test
    assert np.all(moved[:, :, :2] == 0)
    assert len(set(moved[0, :, 2])) == 1
    # Other test images get the same shift.
    changed = replace(found, test=-found.test).shifted(["c"])
    np.testing.assert_allclose(changed.test - -found.test, moved, atol=1e-12)


def test_a_class_that_was_never_predicted_is_found_after_the_correction() -> None:
    validation = np.array([[[4.0, 0, 0], [0, 4, 0], [0, 4, 3], [0, 4, 3]]])
    found = Predictions(["a", "b", "c"], validation, LABELS, validation, LABELS)
    assert found.errors == [2]
    assert found.shifted(["c"]).errors == [0]
