"""The flow of `kd run` for a generator. It trains a judge and a generator, and measures the generated images."""

from prefect import flow

from flows.run_names import distill_run
from kdmodels.experiment import GeneratorExperiment
from kdmodels.experiment.user_code import require_all_allowed
from tasks import tracking
from tasks.comparison_run import session
from tasks.planning.generators import plan_generator
from tasks.prepare_data import prepare_data
from tasks.references import GeneratorOutcome, GeneratorPlan, Options
from tasks.train_generator import train as train_generator
from tasks.train_teacher import train_teacher
from tasks.ui import summaries

DEFAULTS = Options()


@flow(flow_run_name=distill_run)
def generate(experiment: GeneratorExperiment, options: Options = DEFAULTS) -> GeneratorOutcome:
    """Train a generator, and measure its images with a classifier, the judge.

    Finished runs with the same settings are reused. The test split is not read.

    Raises:
        UserError: The data or the judge can't be read, or a training diverged.
    """
    of_judge = experiment.of_judge
    require_all_allowed(of_judge)
    with session(of_judge) as clock:
        with clock("data") as stage:
            data = prepare_data(experiment.data, options.data_dir, options.quiet)
            plan = plan_generator(experiment, data, fresh=options.fresh)
            stage.result = summaries.data(data)
        with clock("judge") as stage:
            judge = train_teacher(of_judge.teacher, of_judge, data, plan.judge, None)
            stage.result = summaries.teacher(judge)
        with clock("generator") as stage:
            generator = train_generator(experiment, data, plan.generator, judge)
            stage.result = summaries.generator(generator)
        return GeneratorOutcome(
            experiment=experiment.name, judge=judge, generator=generator, notes=plan.notes, seconds=clock.seconds
        )


def plan_only(experiment: GeneratorExperiment, options: Options = DEFAULTS) -> GeneratorPlan:
    """Return the actions that `generate` would take. Nothing is trained or recorded, and no server is needed."""
    tracking.configure()
    data = prepare_data.fn(experiment.data, options.data_dir, options.quiet)
    return plan_generator(experiment, data, fresh=options.fresh)
