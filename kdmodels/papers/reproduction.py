"""The definition of a reproduction: the experiments that are run, and the claims that are tested."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from kdmodels.evaluation.class_shift import best_shift
from kdmodels.papers.claims import Claim, Measurements

TEACHER = "(teacher)"
"""The name that selects the teacher where the name of a variant is expected. No variant can have this name."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of S networks, one per seed, for N validation images and M test images of K classes.

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
        """The number of misclassified test images, for each seed."""
        return self.errors_of(self.classes)

    @property
    def accuracy(self) -> list[float]:
        """The test accuracy in percent, for each seed."""
        return [100 * (1 - errors / len(self.test_labels)) for errors in self.errors]

    def errors_of(self, classes: Collection[str]) -> list[float]:
        """Return the number of misclassified test images of these classes, for each seed."""
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
    """The results of the finished runs of a reproduction."""

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds whose runs have finished."""

    def of(self, experiment: str, variant: str) -> Predictions | None:
        """Return the predictions of a variant, or of the teacher if `variant` is `TEACHER`. None without runs."""

    def seconds(self, experiment: str, variant: str) -> list[float]:
        """Return the training time of each run of a variant, in seconds. Without runs, return an empty list."""


@dataclass(frozen=True)
class PaperExperiment:
    """An experiment of a reproduction.

    Attributes:
        file: The name of the file in flows/experiments/papers, without its suffix. It is the name of the experiment.
        quick: The overrides for `--quick`, each as `field=value`.
        generator: The experiment that trains the generator whose images the students learn from. It runs first. `None`
            if the students learn from no generated images.
    """

    file: str
    quick: tuple[str, ...]
    generator: "PaperExperiment | None" = None


@dataclass(frozen=True)
class Reproduction:
    """The claims of one or more papers, and the experiments that test the claims.

    Attributes:
        name: The name in the command `kd reproduce NAME`.
        title: What is reproduced, in words.
        papers: The papers.
        cost: The time that all seeds take on two cores, in words. Estimated times are not confirmed by a full run.
        seeds: The default number of seeds.
        claims: The claims.
        measure: The function that computes the quantities of the claims. Quantities without runs are left out.
        experiments: The experiments, in the order in which they run.
        own_teachers: Whether each seed has its own teacher. If false, all seeds of an experiment share a teacher.
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
    """Return the test accuracies of an experiment's networks in percent, one per seed, by the name of the network.

    Networks that were not run are left out.

    Args:
        names: The names of the variants. `TEACHER` selects the teacher.
    """
    found = {name: results.of(experiment, name) for name in names}
    return {name: predictions.accuracy for name, predictions in found.items() if predictions}


def minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the difference between two values for each seed.

    >>> minus([3, 5], [1, 1])
    [2, 4]
    """
    return [a - b for a, b in zip(one, other, strict=True)]
