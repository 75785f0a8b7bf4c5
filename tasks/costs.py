"""measure_costs: what each network of a comparison costs, one after the other, once nothing trains any more."""

from collections.abc import Collection, Sequence

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.costs import P50, costs
from tasks import runs, tracking
from tasks.references import StudentReference, TeacherReference
from tasks.results import untested
from tasks.steps import alone


@task(cache_policy=NO_CACHE)
def measure_costs(
    teacher: TeacherReference, students: Sequence[StudentReference], code: Collection[str]
) -> tuple[TeacherReference, list[StudentReference]]:
    """The references again, with the costs of the teacher and of every finished student among their metrics.

    Args:
        code: the modules that the user named, whose code a stored network may run.
    """
    tracking.configure()
    return (
        teacher.model_copy(update={"metrics": measured(teacher.run_id, code)}),
        [
            student.model_copy(update={"metrics": measured(student.run_id, code)})
            if student.status == "FINISHED" and student.run_id
            else student
            for student in students
        ],
    )


def measured(run_id: str, code: Collection[str]) -> dict[str, float]:
    """A finished run's metrics, but for those on test; its costs are measured where they are not there yet."""
    run = tracking.get(run_id)
    if P50 in run.metrics:
        return untested(run.metrics)
    with alone("costs"):  # else two measure each other's load
        return _measured(run_id, code)


def _measured(run_id: str, code: Collection[str]) -> dict[str, float]:
    run = tracking.get(run_id)
    if P50 in run.metrics:  # by now
        return untested(run.metrics)
    network, description = runs.recorded_network(run_id, code)
    before = torch.get_num_threads()
    runs.use_threads(int(run.params["threads"]))
    try:
        figures = costs(network, description.input_shape)
    finally:
        runs.use_threads(before)
    tracking.log_metrics(run_id, [(name, value, 0) for name, value in figures.items()])
    return untested(run.metrics) | figures
