"""The contents of a report: everything that its sections show, as read from the store.

If an older version of kdflow recorded the comparison, parts of the contents may be missing. The sections leave out
missing parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdmodels.evaluation.requirements import Rule
from kdmodels.report.curves import Point
from kdmodels.report.leaderboard import Costs, LeaderboardRow
from kdmodels.report.predictions import Predictions


@dataclass(frozen=True)
class Verdict:
    """The decision of the promotion gate.

    Attributes:
        reason: The decision in words.
        model: The name of the registered model.
        version: The version that is the champion after the decision. `None` if there is no champion.
        winner: The variant that the decision is about.
        promoted: Whether the decision made a student the champion.
        test_accuracy: The accuracy on the test split, from 0 to 1, of each variant that the gate measured.
        test_metrics: The metrics of the experiment on the test split, by name, for the variant `winner`.
        rules: The requirements of the gate, with the measured values.
    """

    reason: str
    model: str
    version: int | None
    winner: str
    promoted: bool
    test_accuracy: Mapping[str, float]
    rules: Sequence[Rule]
    test_metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Teacher:
    """The teacher: its validation accuracy, from 0 to 1, and the costs of its network."""

    accuracy: float
    costs: Costs


@dataclass(frozen=True)
class Effort:
    """The time and memory of a training run or of a stage of the comparison. Values that are not recorded are `None`.

    Attributes:
        seconds: The duration.
        memory_mb: The peak of the resident memory of the process, in megabytes.
        gpu_memory_mb: The peak of the memory of torch's tensors on the GPU, in megabytes.
    """

    seconds: float | None = None
    memory_mb: float | None = None
    gpu_memory_mb: float | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run of the comparison's plan.

    Attributes:
        name: The name of the teacher or variant.
        action: What was done: train, extend, resume or reuse.
        reason: The reason for the action.
        effort: The time and the memory of the training. For a reused run, these are the original values.
    """

    name: str
    action: str
    reason: str
    effort: Effort = Effort()


@dataclass(frozen=True)
class Trial:
    """One combination of hyperparameters with which a student was trained.

    Attributes:
        variant: The name of the tuned variant, or of the grid that contains the combination.
        values: The hyperparameters by name, e.g. `soft_targets.temperature`.
        accuracy: The accuracy, from 0 to 1. `None` if the training diverged.
    """

    variant: str
    values: Mapping[str, float]
    accuracy: float | None


@dataclass(frozen=True)
class DataFacts:
    """The recorded facts about the data.

    Attributes:
        source: The source in the experiment file.
        digests: The digests of the data, by a title that says what the digest covers.
        examples: The number of examples of each split.
        classes: The names of the classes. Empty if unknown.
        notes: Other facts that the reader should know, e.g. files that were skipped.
    """

    source: str
    digests: Mapping[str, str]
    examples: Mapping[str, int]
    classes: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Contents:
    """The contents of a report.

    Attributes:
        experiment: The name of the experiment.
        run_id: The id of the comparison's run.
        started: The time of the comparison in UTC, in ISO 8601.
        verdict: The decision of the gate. `None` if the comparison ended before the gate decided.
        rows: The leaderboard, best variant first.
        objectives: The loss terms of each variant in words, by the name of the variant.
        formulas: The formula and the paper of each loss that a variant uses, by the name of the loss. Losses that are
            not in the catalogue are left out.
        winner: The name of the variant that won on validation. `None` if no student finished.
        teacher: The teacher. `None` for an old comparison that did not record its teacher.
        tuning: How many settings were tried for each student, in words.
        notes: Problems that make the results doubtful.
        curves: The learning curves of the variants that the report draws, by variant and metric.
        trials: The trials of each search for hyperparameters. Their accuracies are on an inner split of the training
            data.
        grid: The variants of each grid, with their validation accuracies.
        predictions: The predictions of the winner, its control and the teacher. `None` if they are not recorded.
        runs: The runs of the plan.
        stages: The time of each stage of the comparison, and the memory of the process that runs the comparison.
        data: The recorded facts about the data. `None` if nothing is recorded.
        versions: The versions of the libraries, by name.
        spec: The experiment file that reproduces the comparison.
        folds: The number of folds of the cross-validation. 1 without cross-validation. Curves and predictions are those
            of the first fold; the leaderboard is over all folds.
    """

    experiment: str
    run_id: str
    started: str
    verdict: Verdict | None
    rows: Sequence[LeaderboardRow]
    winner: str | None
    teacher: Teacher | None
    tuning: str
    objectives: Mapping[str, str] = field(default_factory=dict)
    formulas: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    curves: Mapping[str, Mapping[str, Sequence[Point]]] = field(default_factory=dict)
    trials: Sequence[Trial] = ()
    grid: Sequence[Trial] = ()
    predictions: Predictions | None = None
    runs: Sequence[PlannedRun] = ()
    stages: Mapping[str, Effort] = field(default_factory=dict)
    data: DataFacts | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    spec: str = ""
    folds: int = 1

    @property
    def finished(self) -> list[LeaderboardRow]:
        """The rows of the students that finished, best first."""
        return [row for row in self.rows if row.student.finished]

    def row(self, variant: str | None) -> LeaderboardRow | None:
        """Return the leaderboard row of a variant, or `None` if no finished student has this name."""
        return next((row for row in self.finished if row.student.variant == variant), None)
