"""The plan of a flow that trains a generator."""

from kdmodels.experiment import GeneratorExperiment
from kdmodels.versions import VERSIONS
from tasks.planning.keys import Params, common_params
from tasks.planning.plan import look_up, plan_teacher, planned_run
from tasks.references import CODE, DataReference, GeneratorPlan


def plan_generator(experiment: GeneratorExperiment, data: DataReference, *, fresh: bool = False) -> GeneratorPlan:
    """Return the planned runs of the judge and of the generator. Finished runs with the same keys are reused.

    Args:
        fresh: Whether the judge and the generator are trained again, even if finished runs could be reused.

    Raises:
        UserError: The judge's checkpoint, its registered model or the device does not exist.
    """
    judge = plan_teacher(0, experiment.of_judge, data)
    params = generator_params(experiment, data, judge.key)
    steps = [judge, planned_run("generator", "generator", params, [experiment.seed])]
    if fresh:
        steps = [step.model_copy(update={"reason": "--fresh", "fresh": True}) for step in steps]
    else:
        steps = look_up(steps, experiment.name)
    return GeneratorPlan(judge=steps[0], generator=steps[1], notes=data.notes)


def generator_params(experiment: GeneratorExperiment, data: DataReference, judge_key: str) -> Params:
    """Return all params of a generator's run. They include the judge's key, because the judge measures the images."""
    generator = experiment.generator
    row = f"generator.{generator.kind}"
    return common_params(experiment.of_judge, data, ()) | {
        "generator": generator.model_dump(mode="json", exclude_none=True) | {"lr": generator.learning_rate},
        "teacher": judge_key,
        CODE: {name: VERSIONS[name] for name in ("data", row)},
    }
