"""The ranking of students by a validation metric, usually the accuracy, and the choice of the winner."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from kdmodels.experiment.metrics import Metric
from kdmodels.experiment.presets import CONTROL
from kdmodels.run_status import RunStatus

ACCURACY = "val/accuracy"


class StudentResult(BaseModel):
    """The result of the run of one variant, even if the run failed or is not finished.

    Attributes:
        variant: The name of the variant.
        control: The name of the variant's control. The control trains the same student on labels only. `None` if the
            control is not among the compared runs.
        run_id: The MLflow id of the run. `None` if the variant has no recorded run.
        status: The status of the run in MLflow.
        reused: Whether an earlier run was reused instead of training again.
        seeds: The seeds of the run. One network is trained per seed.
        metrics: The mean of each metric over the seeds. A finished run has "val/accuracy".
        per_seed: The values of each metric. Each metric has one value per seed, in the order of `seeds`.
        parameters: The number of the student's parameters. `None` if the run failed before they were counted.
        scores: The values of the metrics that the experiment names in `metrics`, on the validation split. Each metric
            has one value per seed.
        rank_by: The metric in `scores` that ranks the student. `None` if the accuracy ranks the student.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    control: str | None = CONTROL
    run_id: str | None
    status: RunStatus
    reused: bool
    seeds: list[int]
    metrics: dict[str, float]
    per_seed: dict[str, list[float]]
    parameters: int | None
    scores: dict[str, list[float]] = {}
    rank_by: Metric | None = None

    @property
    def finished(self) -> bool:
        """Whether the run succeeded and has an accuracy."""
        return self.status == RunStatus.FINISHED

    @property
    def accuracy(self) -> float:
        """The mean validation accuracy of a finished run."""
        return self.metrics[ACCURACY]

    def score(self, metric: str) -> float:
        """Return the mean of a metric in `scores` over the seeds."""
        return sum(self.scores[metric]) / len(self.scores[metric])


Student = TypeVar("Student", bound=StudentResult)


def ranked(students: Iterable[Student]) -> list[Student]:
    """Return the finished students, best first.

    Students are sorted by the mean over their seeds of the metric `rank_by`. If this metric is not the same for all
    students, because they belong to different comparisons, the students are sorted by their mean validation accuracy.

    If the means are equal, the student with fewer parameters comes first. If the numbers of parameters are equal too,
    a control comes before a distilled student. All other ties keep the order of `students`.
    """
    finished = [student for student in students if student.finished]
    metrics = {student.rank_by for student in finished}
    metric = metrics.pop() if len(metrics) == 1 else None

    def order(student: Student) -> tuple[float, int, bool]:
        merit = metric.merit(student.score(metric.name)) if metric else student.accuracy
        # The last bit of a mean depends on the order of the summed values. Rounding makes such means equal.
        return -round(merit, 12), student.parameters or 0, student.variant != student.control

    return sorted(finished, key=order)


def winner(students: Iterable[Student]) -> Student | None:
    """Return the student that `ranked` puts first. `None` if no run has finished.

    >>> kd = StudentResult(
    ...     variant="kd", run_id="1", status="FINISHED", reused=False, seeds=[0], metrics={"val/accuracy": 0.9},
    ...     per_seed={"val/accuracy": [0.9]}, parameters=10,
    ... )
    >>> failed = kd.model_copy(update={"variant": "hint", "status": "FAILED"})
    >>> winner([failed, kd]).variant
    'kd'
    """
    finished = ranked(students)
    return finished[0] if finished else None
