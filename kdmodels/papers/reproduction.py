"""The form of a reproduction: which experiments of a paper are run, and how its claims are measured."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from kdmodels.evaluation.class_shift import best_shift
from kdmodels.papers.claims import Claim, Measurements

TEACHER = "(teacher)"
"""The name that stands for the teacher of an experiment, where a variant is expected. No variant can have this name."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of the networks of S seeds for N validation images and M test images of K classes.

    Attributes:
        classes: The names of the classes, (K,).
        validation: The logits for the validation images, (S, N, K).
        validation_labels: The true classes of the validation images, (N,).
        test: The logits for the test images, (S, M, K).
        test_labels: The true classes of the test images, (M,).
    """

    classes: Sequence[str]
    validation: np.ndarray
    validation_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @property
    def errors(self) -> list[float]:
        """The number of wrong test images of each seed."""
        return self.errors_of(self.classes)

    @property
    def accuracy(self) -> list[float]:
        """The test accuracy of each seed, in percent."""
        return [100 * (1 - errors / len(self.test_labels)) for errors in self.errors]

    def errors_of(self, classes: Collection[str]) -> list[float]:
        """Return the number of wrong test images of these classes, for each seed."""
        chosen = np.isin(self.test_labels, self._codes(classes))
        wrong = self.test[:, chosen].argmax(axis=2) != self.test_labels[chosen]  # (S, number of chosen images)
        return [float(count) for count in wrong.sum(axis=1)]

    def shifted(self, classes: Collection[str]) -> "Predictions":
        """Return the predictions after a bias correction of these classes.

        For each seed, one number is added to the logits of the classes. The number with the fewest errors on the
        validation split is chosen, see `best_shift`. The test split has no influence on the number.
        """
        codes = self._codes(classes)
        shifts = np.zeros((len(self.test), 1, len(self.classes)), dtype=self.test.dtype)
        for row, logits in enumerate(self.validation):
            shifts[row, 0, codes] = best_shift(logits, self.validation_labels, codes)
        return replace(self, validation=self.validation + shifts, test=self.test + shifts)

    def _codes(self, classes: Collection[str]) -> list[int]:
        return [self.classes.index(name) for name in classes]


class Results(Protocol):
    """What the finished runs of a reproduction provide."""

    @property
    def seeds(self) -> Sequence[int]:
        """The finished seeds."""

    def of(self, experiment: str, variant: str) -> Predictions | None:
        """Return the predictions of a variant's students, or of the teacher. Return None if they were not run."""

    def seconds(self, experiment: str, variant: str) -> list[float]:
        """Return the seconds of training of each run of a variant. The list is empty if the variant was not run."""


@dataclass(frozen=True)
class PaperExperiment:
    """An experiment of a reproduction.

    Attributes:
        file: The name of the file in flows/experiments/papers, without its suffix. It is the name of the experiment.
        quick: The overrides for `--quick`, each as `field=value`.
        generator: The experiment of the generator whose images students learn from. It runs first. `None` for other
            experiments.
    """

    file: str
    quick: tuple[str, ...]
    generator: "PaperExperiment | None" = None


@dataclass(frozen=True)
class Reproduction:
    """The claims of one or more papers, and how they are measured.

    Attributes:
        name: The name for `kd reproduce NAME`.
        title: What is reproduced, in words.
        papers: The papers.
        cost: The time that all seeds take on two cores, in words. An estimate has not been checked by a full run.
        seeds: The default number of seeds.
        claims: The claims.
        measure: The function that measures the claims. A quantity whose runs are missing is left out.
        experiments: The experiments, in the order in which they run.
        own_teachers: Whether each seed has a teacher of its own. If false, all seeds of an experiment share a teacher.
        differences: How the reproduction differs from the papers.
    """

    name: str
    title: str
    papers: tuple[str, ...]
    cost: str
    seeds: int
    claims: tuple[Claim, ...]
    measure: Callable[[Results], Measurements]
    experiments: tuple[PaperExperiment, ...] = ()
    own_teachers: bool = True
    differences: tuple[str, ...] = ()


def accuracies(results: Results, experiment: str, names: Iterable[str]) -> dict[str, list[float]]:
    """Return the test accuracies in percent of the networks of an experiment that were run, by name.

    Args:
        names: The variants. `TEACHER` stands for the teacher.
    """
    found = {name: results.of(experiment, name) for name in names}
    return {name: predictions.accuracy for name, predictions in found.items() if predictions}


def minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the difference of each seed.

    >>> minus([3, 5], [1, 1])
    [2, 4]
    """
    return [a - b for a, b in zip(one, other, strict=True)]
