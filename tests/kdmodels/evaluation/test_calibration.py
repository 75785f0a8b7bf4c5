"""The calibration error against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdmodels.evaluation.calibration import expected_calibration_error


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_calibration_error_by_its_definition(examples: list[tuple[float, bool]], bins: int) -> None:
    """Sums over B_m, the examples with a confidence in ((m - 1) / M, m / M], of |B_m| / N |acc - conf|."""
    confidences, correct = (np.array(column) for column in zip(*examples, strict=True))
    expected = 0.0
    for m in range(1, bins + 1):
        inside = [pair for pair in examples if m - 1 < pair[0] * bins <= m or (m == 1 and pair[0] == 0)]
        if inside:
            accuracy, confidence = (float(np.mean([pair[part] for pair in inside])) for part in (1, 0))
            expected += len(inside) / len(examples) * abs(accuracy - confidence)
    assert expected_calibration_error(confidences, correct, bins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("confidences", [np.array([0.5]), np.array([0.5, 1.1]), np.array([0.5, np.nan])])
def test_confidences_outside_0_to_1_or_of_another_number_are_an_error(confidences: np.ndarray) -> None:
    with pytest.raises(ValueError, match="confidences in 0 to 1"):
        expected_calibration_error(confidences, np.array([True, False]))
