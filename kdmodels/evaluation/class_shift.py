"""A correction of the logits of a network that was trained without images of some classes."""

from collections.abc import Collection

import numpy as np

BEYOND = 1.0
"""If the best interval of shifts is infinite, the returned shift lies at this distance from the interval's only end."""


def best_shift(logits: np.ndarray, labels: np.ndarray, classes: Collection[int]) -> float:
    """Return the shift that gives the fewest errors. A shift is a number that is added to the logits of some classes.

    The margin of an example is the shift above which one of the shifted classes is predicted. In the interval between
    two neighbouring margins, the number of errors is constant. The result is the middle of the widest interval with the
    fewest errors.

    Args:
        logits: Logits of N examples for K classes, (N, K).
        labels: The true classes, (N,).
        classes: The indices of the classes whose logits are shifted. At least one class, but not all.

    References:
        Hinton et al., "Distilling the knowledge in a neural network", 2015, section 3.

    >>> best_shift(np.array([[0.0, 4.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 0, 0]), [0])
    5.0
    """
    inside = np.isin(np.arange(logits.shape[1]), list(classes))
    of_inside, of_others = (np.where(part, logits, -np.inf) for part in (inside, ~inside))  # (N, K) each
    margins = of_others.max(axis=1) - of_inside.max(axis=1)  # (N,)
    order = np.argsort(margins, kind="stable")
    right_inside, right_outside = (part.argmax(axis=1)[order] == labels[order] for part in (of_inside, of_others))
    # Element k is the number of correct predictions if a shifted class is predicted only for the k examples with the
    # lowest margins.
    right = np.concatenate([[0], np.cumsum(right_inside)]) + right_outside.sum()
    right[1:] -= np.cumsum(right_outside)
    ends = np.concatenate([[margins.min() - 2 * BEYOND], margins[order], [margins.max() + 2 * BEYOND]])
    widths = np.diff(ends)
    best = np.flatnonzero((right == right[widths > 0].max()) & (widths > 0))
    chosen = best[widths[best].argmax()]
    return float((ends[chosen] + ends[chosen + 1]) / 2)
