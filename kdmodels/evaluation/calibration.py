"""The calibration error of a classifier, which measures the gap between its confidence and its accuracy."""

import numpy as np

from kdmodels.evaluation.correctness import check_correct


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap between accuracy and confidence, from 0 to 1.

    The examples are divided into bins of equal width by their confidence. The gap of a bin is the absolute difference
    between its accuracy and its mean confidence. The result is the mean of the gaps, weighted by the number of
    examples in each bin. With few examples, the result is biased upwards.

    Args:
        confidences: The probability of the predicted class for each example, from 0 to 1, shape (N,).
        correct: Whether each example is classified correctly, bool, shape (N,).
        bins: The number of bins.

    Raises:
        ValueError: `correct` is empty or is not a boolean vector, or `confidences` are not N numbers from 0 to 1.

    References:
        Guo et al., "On calibration of modern neural networks", 2017, section 2.

    >>> expected_calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([True, True, True, False]))
    0.0
    """
    check_correct(correct)
    if confidences.shape != correct.shape or not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError(f"expected {correct.shape} confidences in 0 to 1, got {confidences.shape}")
    # A bin includes its upper border.
    indices = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(indices, correct - confidences)).sum() / correct.size)
