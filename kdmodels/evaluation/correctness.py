"""Records of the examples that a network classifies correctly."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True, eq=False)
class Correctness:
    """A record of the validation examples that the networks of one run classify correctly.

    A run trains one network (replica) per seed.

    Attributes:
        split: The digest of the validation split. Runs on different splits are not compared.
        outcomes: Whether the network of each seed classifies each example correctly, bool, shape (S, N) for S seeds
            and N examples. The rows have the order of the run's seeds.
    """

    split: str
    outcomes: np.ndarray

    @property
    def stored(self) -> np.ndarray:
        """The outcomes of the network with the highest accuracy, bool, shape (N,). The run stores only this network.

        If several seeds have the highest accuracy, the first of these seeds is used. With cross-validation, each fold
        stores its own best network. In this case, the outcomes are those of the seed that is best over all folds.
        """
        return self.outcomes[self.outcomes.sum(axis=1).argmax()]


UNKNOWN: Mapping[str, Correctness] = MappingProxyType({})
"""An empty mapping from run id to correctness. It is used if the correctness of the runs is unknown."""


def check_correct(correct: np.ndarray) -> None:
    """Raise a ValueError unless an array is a boolean vector with at least one element.

    Args:
        correct: Whether each example is classified correctly, bool, shape (N,).

    Raises:
        ValueError: The array is not boolean, does not have exactly one dimension, or is empty.
    """
    if correct.dtype != np.bool_ or correct.ndim != 1 or correct.size == 0:
        raise ValueError(f"expected a boolean vector that is not empty, got {correct.dtype} {correct.shape}")
