"""The comparison of a classifier with a constant prediction: the most frequent class of the examples."""

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc

from kdmodels.evaluation.looks import ALPHA


@dataclass(frozen=True)
class Chance:
    """The result of comparing a classifier with the prediction of the most frequent class.

    Attributes:
        correct: The number of examples that the classifier predicts correctly.
        n: The number of examples.
        share: The share of the examples that belong to the most frequent class, from 0 to 1.
        p_value: The p-value of the exact one-sided binomial test. The null hypothesis is that the classifier's accuracy
            is not above `share`.
    """

    correct: int
    n: int
    share: float
    p_value: float

    @property
    def better(self) -> bool:
        """Whether the classifier's accuracy is significantly above the share of the most frequent class."""
        return self.p_value < ALPHA

    def __str__(self) -> str:
        p = f"p = {self.p_value:.3f}" if self.p_value >= 0.001 else "p < 0.001"
        return (
            f"{100 * self.correct / self.n:.2f} % of {self.n} examples are correct, the most frequent class has "
            f"{100 * self.share:.2f} %, one-sided {p}"
        )


def compare_with_chance(correct: int, labels: np.ndarray) -> Chance:
    """Test whether a classifier is better than always predicting the most frequent class.

    The share of the most frequent class is computed on the same examples. A classifier that always predicts one class
    is correct on at most this share of the examples, so the test never calls such a classifier better.

    Args:
        correct: The number of examples that the classifier predicts correctly.
        labels: The label or the class name of each example, shape (N,), with N of at least 1.

    >>> compare_with_chance(9, np.array(["cat", "owl"] * 5))
    Chance(correct=9, n=10, share=0.5, p_value=0.0107421875)
    """
    n = len(labels)
    _, counts = np.unique(labels, return_counts=True)
    share = float(counts.max()) / n
    p_value = float(bdtrc(correct - 1, n, share)) if correct else 1.0  # P(X >= correct) for X ~ Binomial(n, share)
    return Chance(correct, n, share, p_value)
