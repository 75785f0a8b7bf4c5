"""The ranking of students by validation accuracy, and the choice of the winner."""

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

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

    @property
    def finished(self) -> bool:
        """Whether the run succeeded and has an accuracy."""
        return self.status == RunStatus.FINISHED

    @property
    def accuracy(self) -> float:
        """The mean validation accuracy of a finished run."""
        return self.metrics[ACCURACY]


Student = TypeVar("Student", bound=StudentResult)


def ranked(students: Iterable[Student]) -> list[Student]:
    """Return the finished students, sorted by mean validation accuracy, highest first.

    If accuracies are equal, the student with fewer parameters comes first. If the numbers of parameters are equal too,
    a control comes before a distilled student. All other ties keep the order of `students`.
    """

    def order(student: Student) -> tuple[float, int, bool]:
        # The last bit of a mean depends on the order of the summed values. Rounding makes such means equal.
        return -round(student.accuracy, 12), student.parameters or 0, student.variant != student.control

    return sorted((student for student in students if student.finished), key=order)


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
