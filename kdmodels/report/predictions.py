"""Summaries of the networks' predictions for the validation images, for a report.

A summary is small, because it holds counts instead of single predictions. Only the few images on which student and
teacher disagree most are kept, as pictures.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from kdmodels.evaluation.calibration import expected_calibration_error

BINS = 15  # number of bins of a reliability diagram, the same as for the calibration error
MOST_CLASSES = 4  # maximum number of classes per image whose probabilities are kept
Role = Literal["student", "control", "teacher"]


class _Summary(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bin(_Summary):
    """A bin of a reliability diagram: its examples, their mean confidence and their accuracy, both from 0 to 1."""

    examples: int
    confidence: float
    accuracy: float


class NetworkSummary(_Summary):
    """The predictions of one network.

    Attributes:
        role: The role of the network in the comparison: student, control or teacher.
        name: The name of the variant, or `teacher`.
        accuracy: The accuracy, from 0 to 1.
        calibration_error: The expected calibration error, from 0 to 1.
        confusions: For each pair of a true and a predicted class that occurs, their indices and the number of examples.
        bins: The bins of the reliability diagram that hold examples, sorted by confidence.
    """

    role: Role
    name: str
    accuracy: float
    calibration_error: float
    confusions: list[tuple[int, int, int]]
    bins: list[Bin]


class ClassShare(_Summary):
    """The probabilities, from 0 to 1, that student and teacher give to one class of an image."""

    index: int
    student: float
    teacher: float


class Disagreement(_Summary):
    """An image on which student and teacher disagree.

    Attributes:
        label: The index of the true class.
        picture: The image as a PNG file, base64-encoded.
        shares: For each temperature, the classes with the highest probabilities.
    """

    label: int
    picture: str
    shares: dict[float, list[ClassShare]]


class Predictions(_Summary):
    """The predictions of the winner, its control and the teacher for the validation images.

    Attributes:
        classes: The names of the classes.
        examples: The number of validation images. With cross-validation, only those of the first fold count.
        networks: The student, its control unless the student is the control, and the teacher.
        disagreements: The images on which student and teacher disagree most, sorted from the largest disagreement.
    """

    classes: list[str]
    examples: int
    networks: list[NetworkSummary]
    disagreements: list[Disagreement]


def summarise(role: Role, name: str, probabilities: np.ndarray, labels: np.ndarray) -> NetworkSummary:
    """Summarise the predictions of a network.

    Args:
        role: The role of the network in the comparison: student, control or teacher.
        name: The name of the variant, or `teacher`.
        probabilities: The probabilities of K classes for N examples, (N, K).
        labels: The true classes, (N,).
    """
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == labels
    pairs, counts = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return NetworkSummary(
        role=role,
        name=name,
        accuracy=float(correct.mean()),
        calibration_error=expected_calibration_error(confidences, correct, BINS),
        confusions=[(int(true), int(seen), int(count)) for (true, seen), count in zip(pairs, counts, strict=True)],
        bins=reliability_bins(confidences, correct),
    )


def reliability_bins(confidences: np.ndarray, correct: np.ndarray) -> list[Bin]:
    """Return the bins of a reliability diagram that hold examples, sorted by confidence.

    A bin includes its upper bound.

    Args:
        confidences: The probability of the predicted class of each example, (N,).
        correct: Whether each example is classified correctly, (N,).
    """
    indices = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(
            examples=int((indices == index).sum()),
            confidence=float(confidences[indices == index].mean()),
            accuracy=float(correct[indices == index].mean()),
        )
        for index in np.unique(indices)
    ]


def most_different(student: np.ndarray, teacher: np.ndarray, count: int) -> list[int]:
    """Return the indices of the examples on which two networks disagree most, sorted from the largest disagreement.

    The disagreement is the Jensen-Shannon divergence of the two distributions. It is symmetric and at most log 2.

    Args:
        student, teacher: The probabilities of K classes for N examples, (N, K).
        count: The maximum number of returned examples. Examples with equal distributions are left out.
    """
    middle = (student + teacher) / 2
    divergence = (_kl(student, middle) + _kl(teacher, middle)) / 2  # (N,)
    order = np.argsort(-divergence, kind="stable")[:count]
    return [int(index) for index in order if divergence[index] > 1e-12]


def class_shares(student: np.ndarray, teacher: np.ndarray) -> list[ClassShare]:
    """Return the classes to which student or teacher gives the highest probabilities, sorted by index.

    Args:
        student, teacher: The probabilities of K classes for one example, (K,).
    """
    highest = np.argsort(-np.maximum(student, teacher), kind="stable")[:MOST_CLASSES]
    return [
        ClassShare(index=int(index), student=round(float(student[index]), 6), teacher=round(float(teacher[index]), 6))
        for index in sorted(highest)
    ]


def matrix(summary: NetworkSummary, classes: Sequence[str]) -> np.ndarray:
    """Return the confusion matrix, (K, K). The rows are true classes, the columns predicted classes."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    for true, predicted, count in summary.confusions:
        counts[true, predicted] = count
    return counts


def by_role(predictions: Predictions) -> Mapping[Role, NetworkSummary]:
    """Return the summaries by the role of the network."""
    return {network.role: network for network in predictions.networks}


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the Kullback-Leibler divergence of each row, (N,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    divergence: np.ndarray = terms.sum(axis=1)
    return divergence
