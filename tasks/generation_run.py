"""The MLflow run of a generation. A generation trains a generator and decides about its promotion.

The runs of the generator and of the judge are child runs of this run. The judge is a classifier that measures the
generator.
"""

from contextlib import AbstractContextManager
from functools import partial

from kdmodels.experiment import GeneratorExperiment
from tasks.comparison_run import Clock, command_run, planned_run
from tasks.planning.generators import plan_generator
from tasks.planning.keys import flatten
from tasks.references import DataReference, GeneratorPlan


def generation(
    experiment: GeneratorExperiment, data: DataReference, *, fresh: bool, clock: Clock
) -> AbstractContextManager[tuple[GeneratorPlan, str]]:
    """Plan a generation and start its run, see `planned_run`. Provide the plan and the id of the run.

    Args:
        fresh: Whether both networks are trained again, even if earlier runs could be reused.
        clock: The clock of the flow.
    """

    def start(plan: GeneratorPlan) -> AbstractContextManager[str]:
        params = flatten(experiment.model_dump(mode="json", exclude_none=True)) | {"promote.model": experiment.name}
        return command_run("generation", experiment, [data], plan, params=params, tags={})

    return planned_run(clock, partial(plan_generator, experiment, data, fresh=fresh), start)
