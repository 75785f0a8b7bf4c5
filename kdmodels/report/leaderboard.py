"""The rows of the leaderboard: students ranked by validation accuracy, with intervals, evidence and costs.

`kd/leaderboard.py` prints the rows and chooses the columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kdmodels.evaluation.correctness import UNKNOWN, Correctness
from kdmodels.evaluation.ranking import ACCURACY, StudentResult, ranked
from kdmodels.evaluation.significance import Evidence, evidence
from kdmodels.evaluation.statistics import mean_and_std, t_interval
from kdmodels.report import formats

FLOPS = "cost/flops"


@dataclass(frozen=True)
class Costs:
    """The costs of a stored network: its size, and the cost of classifying one image.

    A cost is `None` if the run was recorded by an older version of kdflow that did not measure this cost.

    Attributes:
        parameters: The number of parameters.
        file_mb: The size of the stored file in 10^6 bytes.
        mflops: The number of floating-point operations in millions. A multiplication with an addition counts as 2.
        memory_mb: The peak memory of one call in 10^6 bytes.
        p50_ms: The median time of one image on the CPU in ms.
    """

    parameters: int | None
    file_mb: float | None = None
    mflops: float | None = None
    memory_mb: float | None = None
    p50_ms: float | None = None


@dataclass(frozen=True)
class LeaderboardRow:
    """The leaderboard row of one student. If the student's run did not finish, the row has no rank and no metrics.

    Attributes:
        student: The result of the student's run.
        costs: The costs of the stored network.
        evidence: The uncertainty of the student's accuracy, and the comparison with other students.
        rank: The rank of the student, counted from 1.
        accuracy: The mean validation accuracy over seeds, from 0 to 1.
        std: The standard deviation of the accuracy over seeds. `None` for one seed.
        low, high: The ends of Student's 95 % t interval of the mean over seeds. `None` if there is only one seed, or if
            all seeds have the same accuracy.
        efficient: Whether the student is on the Pareto front. `None` if unknown, see `is_efficient`.
    """

    student: StudentResult
    costs: Costs
    evidence: Evidence = Evidence()  # noqa: RUF009 - frozen
    rank: int | None = None
    accuracy: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    efficient: bool | None = None

    def metric(self, name: str) -> str:
        """Return the mean of a metric over the seeds and its standard deviation, as text. Empty if not measured."""
        values = self.student.scores.get(name)
        return formats.metric(*mean_and_std(values)) if values else ""


def metric_names(rows: Iterable[LeaderboardRow]) -> list[str]:
    """Return the names of the metrics that were measured beside the accuracy, for at least one of the rows."""
    return list(dict.fromkeys(name for row in rows for name in row.student.scores))


def leaderboard(
    students: Sequence[StudentResult], correctness: Mapping[str, Correctness] = UNKNOWN
) -> list[LeaderboardRow]:
    """Return one row per student. The winner comes first, and students whose run did not finish come last.

    Args:
        students: The results of the students, one per variant, in the order of the experiment file.
        correctness: For each run, by run id, the record of the validation examples that are classified correctly. See
            `evidence`.
    """
    order = ranked(students)
    rows = [
        _finished_row(rank, student, line, order)
        for rank, (student, line) in enumerate(zip(order, evidence(order, correctness), strict=True), 1)
    ]
    return rows + [LeaderboardRow(each, Costs(each.parameters)) for each in students if not each.finished]


def costs(parameters: int | None, metrics: Mapping[str, float]) -> Costs:
    """Return the costs that are recorded in the metrics of a run.

    >>> costs(10, {"cost/flops": 2_000_000, "latency/p50_ms": 0.5})
    Costs(parameters=10, file_mb=None, mflops=2.0, memory_mb=None, p50_ms=0.5)
    """
    return Costs(
        parameters=parameters,
        file_mb=metrics.get("size/file_mb"),
        mflops=metrics[FLOPS] / 1e6 if FLOPS in metrics else None,
        memory_mb=metrics.get("cost/memory_mb"),
        p50_ms=metrics.get("latency/p50_ms"),
    )


def is_efficient(student: StudentResult, students: Iterable[StudentResult]) -> bool | None:
    """Return whether a student is on the Pareto front of accuracy, parameters and FLOPs.

    A student is on the front unless another student is at least as good in all three values and better in one. Latency
    is not used, because a repeated measurement gives a different value.

    Args:
        student: The student.
        students: All students. Students with an unfinished run or unknown FLOPs are ignored.

    Returns:
        Whether the student is on the front. `None` if its run has not finished or its FLOPs are unknown.
    """
    goodness = _goodness(student)
    if goodness is None:
        return None
    others = filter(None, map(_goodness, students))
    return not any(other != goodness and all(o >= g for o, g in zip(other, goodness, strict=True)) for other in others)


def _finished_row(rank: int, student: StudentResult, line: Evidence, order: Sequence[StudentResult]) -> LeaderboardRow:
    accuracies = student.per_seed[ACCURACY]
    low, high = t_interval(accuracies) or (None, None)
    return LeaderboardRow(
        student=student,
        costs=costs(student.parameters, student.metrics),
        evidence=line,
        rank=rank,
        accuracy=student.accuracy,
        std=mean_and_std(accuracies)[1],
        # An accuracy is from 0 to 1, but Student's t interval can extend beyond this range.
        low=None if low is None else max(low, 0.0),
        high=None if high is None else min(high, 1.0),
        efficient=is_efficient(student, order),
    )


def _goodness(student: StudentResult) -> tuple[float, ...] | None:
    """Return the accuracy, the negative number of parameters and the negative FLOPs. Larger values are better.

    If the run has not finished or the FLOPs are unknown, return `None`.
    """
    if not student.finished or FLOPS not in student.metrics:
        return None
    return round(student.accuracy, 12), -(student.parameters or 0), -student.metrics[FLOPS]
