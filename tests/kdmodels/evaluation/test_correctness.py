"""Which examples a network classifies correctly."""

import numpy as np
import pytest

from kdmodels.evaluation.correctness import Correctness, check_correct


def test_the_stored_outcomes_are_those_of_the_first_best_seed() -> None:
    outcomes = np.array([[True, False, False], [True, True, False], [False, True, True]])
    assert Correctness("split", outcomes).stored.tolist() == [True, True, False]


@pytest.mark.parametrize("correct", [np.zeros(0, dtype=bool), np.zeros(5), np.zeros((2, 2), dtype=bool)])
def test_only_a_boolean_vector_that_is_not_empty_is_correctness(correct: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a boolean vector that is not empty, got"):
        check_correct(correct)
