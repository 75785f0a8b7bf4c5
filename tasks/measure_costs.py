"""measure_costs: measure the time and memory that each network needs, after all training has ended.

The networks of a comparison are measured one at a time.
"""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.evaluation.costs import P50, served_costs
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.execution.locks import exclusive
from tasks.execution.team_locks import team_exclusive
from tasks.references import StudentReference, TeacherReference
from tasks.results import untested
from tasks.served_models import members_of, run_model


@task(task_run_name="measure_costs", cache_policy=NO_CACHE)
def measure_costs(
    teacher: TeacherReference, students: Sequence[StudentReference]
) -> tuple[TeacherReference, list[StudentReference]]:
    """Measure the costs of the teacher and of the finished students, and return both with the costs as metrics.

    Recorded costs are not measured again. Unfinished students are returned unchanged.
    """
    tracking.configure()
    return (
        teacher.model_copy(update={"metrics": measured(teacher.run_id)}),
        [
            student.model_copy(update={"metrics": measured(student.run_id)})
            if student.status == RunStatus.FINISHED and student.run_id
            else student
            for student in students
        ],
    )


def measured(run_id: str, *, again: bool = False) -> dict[str, float]:
    """Return the metrics of a finished run, without test metrics. If its costs are not recorded, measure them first.

    Args:
        again: Whether recorded costs are measured again. This is needed if the run has a new model.
    """
    run = tracking.get(run_id)
    if P50 in run.metrics and not again:
        return untested(run.metrics)
    # The first lock prevents two measurements at the same time on this machine. They would slow each other down. The
    # second lock prevents two machines from measuring the same run.
    with exclusive("costs"), team_exclusive(f"costs of {run_id}"):
        run = tracking.get(run_id)
        if P50 in run.metrics and not again:  # another process has measured the costs meanwhile
            return untested(run.metrics)
        threads = int(run.params["threads"])
        figures = served_costs([run_model(member, threads) for member in members_of(run_id)])
        tracking.log_metrics(run_id, [(name, value, 0) for name, value in figures.items()])
        return untested(run.metrics) | figures
