"""Predictions of networks whose numbers of errors on 200 images of digits are known."""

import numpy as np

from kdmodels.papers.reproduction import Predictions

CLASSES = [str(digit) for digit in range(10)]
LABELS = np.repeat(np.arange(10), 20)


def wrong(count: int) -> np.ndarray:
    """Return logits, (200, 10), that are wrong for this number of images."""
    logits = np.eye(10)[LABELS] * 5
    logits[:count] = np.roll(logits[:count], 1, axis=1)
    return logits


def shifted(classes: list[int], shift: float) -> np.ndarray:
    """Return perfect logits, (200, 10), to which a number was added for some classes."""
    logits = np.eye(10)[LABELS] * 5
    logits[:, classes] += shift
    return logits


def predictions(logits: list[np.ndarray]) -> Predictions:
    """Return the predictions of one network for each seed."""
    return Predictions(CLASSES, np.stack(logits), LABELS, np.stack(logits), LABELS)
