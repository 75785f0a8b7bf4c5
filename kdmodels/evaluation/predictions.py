"""The predictions of a network, and metrics of the predictions, overall and by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from kdmodels.data.split import Split
from kdmodels.device import CPU
from kdmodels.networks.layout import layout_of
from kdmodels.serving.model_file import ServedModel

BATCH = 2048  # number of examples in one forward pass without gradients


@torch.no_grad()
def predict(network: nn.Module, split: Split, device: torch.device = CPU) -> Tensor:
    """Return the network's logits (N, K) on the CPU. The network is moved to the device and set to eval mode."""
    network.eval().to(device)
    batches, laid_out = torch.arange(len(split)).split(BATCH), layout_of(network)
    return torch.cat([network(laid_out(split.batch(rows).to(device))).cpu() for rows in batches])


def served_logits(model: ServedModel, split: Split) -> np.ndarray:
    """Return the logits (N, K) of a served model."""
    return np.concatenate([model(split.batch(rows).numpy()) for rows in torch.arange(len(split)).split(BATCH)])


def correct(network: nn.Module, split: Split, device: torch.device = CPU) -> Tensor:
    """Return whether the network classifies each example correctly, bool, shape (N,)."""
    return predict(network, split, device).argmax(dim=1) == split.labels


def confidences(logits: Tensor) -> np.ndarray:
    """Return the probability of the predicted class of each example, (N,), from logits (N, K)."""
    return logits.double().softmax(dim=1).amax(dim=1).numpy()


@dataclass(frozen=True)
class ClassFigures:
    """The metrics of one class. Weaknesses on small classes are visible here, but not in the overall accuracy.

    Attributes:
        name: The name of the class.
        examples: The number of examples of the class.
        accuracy: The share of the class's examples that are predicted correctly (recall). NaN if the class has no
            examples.
        precision: The share of correct predictions among all predictions of this class. NaN if this class is never
            predicted.
        f1: The harmonic mean of accuracy and precision. NaN if both are NaN.
    """

    name: str
    examples: int
    accuracy: float
    precision: float
    f1: float

    def record(self) -> dict[str, str | int | float]:
        """Return the metrics as one row of a table, by column name."""
        return {
            "class": self.name,
            "examples": self.examples,
            "accuracy": self.accuracy,
            "precision": self.precision,
            "f1": self.f1,
        }


def by_class(predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[ClassFigures]:
    """Return the metrics of each class, in the order of `classes`.

    Args:
        predicted: The index of the predicted class of each example, (N,). The index -1 means that none of the classes
            was predicted.
        labels: The index of the true class of each example, (N,).
        classes: The names of the K classes.

    >>> by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ["cat", "dog"])[1]
    ClassFigures(name='dog', examples=2, accuracy=0.5, precision=1.0, f1=0.6666666666666666)
    """
    count = partial(np.bincount, minlength=len(classes))
    examples, predictions = count(labels), count(predicted[predicted >= 0])  # (K,) each
    correct = count(labels[predicted == labels])
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as intended
        columns = (examples, correct / examples, correct / predictions, 2 * correct / (examples + predictions))
    return [ClassFigures(*row) for row in zip(classes, *(column.tolist() for column in columns), strict=True)]


def macro(rows: Sequence[ClassFigures]) -> dict[str, float]:
    """Return the macro accuracy (balanced accuracy) and the macro F1. Both are unweighted means over the classes.

    A class whose accuracy is NaN is left out of the macro accuracy. A class whose F1 is NaN is left out of the macro
    F1.

    >>> macro(by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ["cat", "dog"]))
    {'macro_accuracy': 0.75, 'macro_f1': 0.6666666666666666}
    """
    accuracies, f1 = [row.accuracy for row in rows], [row.f1 for row in rows]
    return {"macro_accuracy": float(np.nanmean(accuracies)), "macro_f1": float(np.nanmean(f1))}
