"""A candidate for promotion, with its results on the test split.

The promotion gate decides from these results whether the candidate becomes the champion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import JsonValue

from kdmodels.evaluation.calibration import expected_calibration_error
from kdmodels.evaluation.correctness import check_correct
from kdmodels.evaluation.statistics import Interval, wilson_interval


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that the promotion gate compares with other models. It has results on N test examples.

    Attributes:
        name: The name of the model in the gate's verdict.
        correct: Whether the model classifies each example correctly, bool, shape (N,). All candidates have the same
            examples in the same order.
        labels: The name of the class of each example, str, shape (N,).
        classes: The names of the classes that the model can predict.
        parameters: The number of parameters.
        file_bytes: The size of the model's file in bytes.
        latency_ms: The median time of one image on the CPU in ms.
        confidences: The probability of the predicted class of each example, shape (N,). `None` if not measured.
        agrees: Whether the model and the teacher predict the same class for each example, bool, shape (N,). `None` if
            not measured.
        metrics: The values of the metrics that the experiment names in `metrics`.

    Raises:
        ValueError: `correct` is empty or is not a boolean vector, or `labels` has a different length.
    """

    name: str
    correct: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    parameters: int
    file_bytes: int
    latency_ms: float
    confidences: np.ndarray | None = None
    agrees: np.ndarray | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_correct(self.correct)
        if self.labels.shape != self.correct.shape:
            raise ValueError(f"expected {self.correct.shape} labels, got {self.labels.shape}")

    @property
    def accuracy(self) -> float:
        """The share of the examples that are classified correctly."""
        return float(self.correct.sum()) / self.correct.size

    @property
    def accuracy_interval(self) -> Interval:
        """Wilson's 95 % interval of the accuracy."""
        return wilson_interval(int(self.correct.sum()), self.correct.size)

    @property
    def file_mb(self) -> float:
        """The size of the model's file in 10^6 bytes."""
        return self.file_bytes / 1e6

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error. `None` if the confidences were not measured."""
        return None if self.confidences is None else expected_calibration_error(self.confidences, self.correct)

    @property
    def agreement(self) -> float | None:
        """The lower end of Wilson's 95 % interval of the share of examples on which model and teacher agree.

        `None` if the agreement was not measured.
        """
        return None if self.agrees is None else wilson_interval(int(self.agrees.sum()), self.agrees.size)[0]

    def weakest_class(self) -> tuple[str, float, float]:
        """Return the weakest class: its name, its accuracy, and the lower bound of its accuracy.

        The bound is the lower end of Wilson's 95 % interval. The weakest class is the class with the lowest bound. For
        a class without test examples, accuracy and bound are 0.
        """
        figures: list[tuple[float, float, str]] = []
        for name in {*self.classes, *self.labels.tolist()}:
            correct = self.correct[self.labels == name]
            count, n = int(correct.sum()), int(correct.size)
            figures.append((wilson_interval(count, n)[0], count / n, name) if n else (0.0, 0.0, name))
        bound, accuracy, weakest = min(figures)
        return weakest, accuracy, bound

    def describe(self) -> dict[str, JsonValue]:
        """Return the metrics of the model, by name, as JSON values. A verdict contains these metrics as evidence."""
        weakest, class_accuracy, _ = self.weakest_class()
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "accuracy_interval": [*self.accuracy_interval],
            "parameters": self.parameters,
            "file_mb": self.file_mb,
            "latency_ms": self.latency_ms,
            "weakest_class": {"name": weakest, "accuracy": class_accuracy},
            "ece": self.calibration_error,
            "agreement": self.agreement,
            "metrics": {**self.metrics},
        }
