"""The run of a generation: the training and the promotion of a generator. Its children are judge and generator."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from prefect.logging import get_run_logger

from kdmodels.experiment import GeneratorExperiment
from tasks.comparison_run import Clock, command_run
from tasks.execution.locks import PLANNING
from tasks.execution.team_locks import team_exclusive
from tasks.planning.generators import plan_generator
from tasks.planning.keys import flatten
from tasks.references import DataReference, GeneratorPlan
from tasks.ui import summaries


@dataclass(frozen=True)
class Generation:
    """A generation whose run has begun: its plan, and the id of its run."""

    plan: GeneratorPlan
    parent: str


@contextmanager
def generation(
    experiment: GeneratorExperiment, data: DataReference, *, fresh: bool, clock: Clock
) -> Iterator[Generation]:
    """Plan a generation and start its run. Provide the plan and the id of the run.

    The plan may reuse earlier runs. A lock prevents `kd gc` from deleting them until the new run records their ids.

    Args:
        fresh: Whether both networks are trained again, even if earlier runs could be reused.
        clock: The clock of the flow. The seconds of planning are added to the stage "data".
    """
    with ExitStack() as planning:
        with clock("data"):
            planning.enter_context(team_exclusive(PLANNING))
            plan = plan_generator(experiment, data, fresh=fresh)
        get_run_logger().info(f"plan: {summaries.plan(plan)}")
        params = flatten(experiment.model_dump(mode="json", exclude_none=True)) | {"promote.model": experiment.name}
        with command_run("generation", experiment, [data], plan, params=params, tags={}) as parent:
            planning.close()
            yield Generation(plan, parent)
