"""What a network gets right, in all and by class."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdmodels.data.dataset import Split
from kdmodels.device import CPU
from kdmodels.networks.layout import layout_of
from kdmodels.serving.model_file import ServedModel

BATCH = 2048  # of a forward pass without gradient


@torch.no_grad()
def predict(network: nn.Module, split: Split, device: torch.device = CPU) -> Tensor:
    """Logits (N, K), on the CPU, of the network in eval mode; it is moved to the device."""
    network.eval().to(device)
    batches, laid_out = torch.arange(len(split)).split(BATCH), layout_of(network)
    return torch.cat([network(laid_out(split.batch(rows).to(device))).cpu() for rows in batches])


def served_logits(model: ServedModel, split: Split) -> np.ndarray:
    """Return the logits (N, K) that a served model gives."""
    return np.concatenate([model(split.batch(rows).numpy()) for rows in torch.arange(len(split)).split(BATCH)])


def correct(network: nn.Module, split: Split, device: torch.device = CPU) -> Tensor:
    """(N,) bool: which examples the network classifies rightly."""
    return predict(network, split, device).argmax(dim=1) == split.labels


def confidences(logits: Tensor) -> np.ndarray:
    """(N,), the probability of the predicted class, of logits (N, K)."""
    return logits.double().softmax(dim=1).amax(dim=1).numpy()


def by_class(predicted: np.ndarray, labels: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Each class's figures, in the order of the classes: what one accuracy hides where classes are of unequal size.

    Args:
        predicted, labels: (N,) indices of classes; predicted may be -1, which is none of them.
    Returns:
        class (its name), examples, accuracy (of the class's examples: its recall), precision (of the examples that
        are taken for it) and f1; NaN where there is nothing to count.

    >>> by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ["cat", "dog"])[1]
    {'class': 'dog', 'examples': 2, 'accuracy': 0.5, 'precision': 1.0, 'f1': 0.6666666666666666}
    """
    of_class = partial(np.bincount, minlength=len(classes))
    examples, taken = of_class(labels), of_class(predicted[predicted >= 0])
    right = of_class(labels[predicted == labels])
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        columns = (examples, right / examples, right / taken, 2 * right / (examples + taken))
    names = ("class", "examples", "accuracy", "precision", "f1")
    rows = zip(classes, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def macro(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Macro accuracy (balanced accuracy) and macro F1: the means over classes, each counting alike.

    A class without examples has no accuracy, and no F1 unless an example was taken for it.

    >>> macro(by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ["cat", "dog"]))
    {'macro_accuracy': 0.75, 'macro_f1': 0.6666666666666666}
    """
    return {f"macro_{name}": float(np.nanmean([row[name] for row in rows])) for name in ("accuracy", "f1")}
