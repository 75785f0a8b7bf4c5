"""measure_costs: what each network of a comparison costs, one after the other, once nothing trains any more."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.serving.costs import P50, served_costs
from tasks import tracking
from tasks.references import StudentReference, TeacherReference
from tasks.results import untested
from tasks.served import members_of, run_model
from tasks.steps import alone


@task(cache_policy=NO_CACHE)
def measure_costs(
    teacher: TeacherReference, students: Sequence[StudentReference]
) -> tuple[TeacherReference, list[StudentReference]]:
    """Return the references with the costs of the teacher and of every finished student among their metrics."""
    tracking.configure()
    return (
        teacher.model_copy(update={"metrics": measured(teacher.run_id)}),
        [
            student.model_copy(update={"metrics": measured(student.run_id)})
            if student.status == "FINISHED" and student.run_id
            else student
            for student in students
        ],
    )


def measured(run_id: str, *, again: bool = False) -> dict[str, float]:
    """Return a finished run's metrics, but for those on test. Its costs are measured where they are not there yet.

    Args:
        again: measure them although they are there, for the run has another model now.
    """
    run = tracking.get(run_id)
    if P50 in run.metrics and not again:
        return untested(run.metrics)
    with alone("costs"):  # else two measure each other's load
        run = tracking.get(run_id)
        if P50 in run.metrics and not again:  # by now
            return untested(run.metrics)
        threads = int(run.params["threads"])
        figures = served_costs([run_model(member, threads) for member in members_of(run_id)])
        tracking.log_metrics(run_id, [(name, value, 0) for name, value in figures.items()])
        return untested(run.metrics) | figures
