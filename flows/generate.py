"""The flow of `kd run` for a generator. It trains and measures a generator, and promotes it if the gate accepts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.states import Cancelled, Completed

from flows.run_names import experiment_run
from flows.services.schedule_records import enter_schedule
from kdmodels.experiment import GeneratorExperiment
from kdmodels.experiment.generator import judge_named
from kdmodels.experiment.user_code import require_all_allowed
from tasks import tracking
from tasks.cancellation import RunCancelledError
from tasks.comparison_run import Clock, session
from tasks.generation_run import generation
from tasks.planning.generators import plan_generator
from tasks.prepare_data import prepare_data, with_teachers
from tasks.promote_generator import promote_generator, require_comparable
from tasks.references import (
    DataReference,
    GeneratorOutcome,
    GeneratorPlan,
    GeneratorReference,
    Options,
    TeacherReference,
)
from tasks.train_generator import train as train_generator
from tasks.train_teacher import train_teacher
from tasks.ui import summaries

DEFAULTS = Options()


@flow(flow_run_name=experiment_run)
def generate(experiment: GeneratorExperiment, options: Options = DEFAULTS) -> GeneratorOutcome:
    """Train a generator, measure its images, and promote the generator if the promotion gate accepts it.

    The images are measured with a classifier, called the judge, which is trained first.

    Finished runs with the same settings are reused. Only the promotion reads the test split.

    Raises:
        CancelledRun: Somebody cancelled the generation with `kd cancel`.
        UserError: The data or the judge can't be read, a training diverged, or the champion can't be compared, e.g.
            because its images have another shape.
    """
    try:
        outcome = train_and_promote(experiment, options)
    except RunCancelledError as error:
        return Cancelled(message=str(error))  # type: ignore[return-value]  # Prefect raises CancelledRun instead
    state: State[GeneratorOutcome] = Completed(message=summaries.generation(outcome), data=outcome)
    return state  # type: ignore[return-value]  # Prefect returns the data of the state


def train_and_promote(experiment: GeneratorExperiment, options: Options) -> GeneratorOutcome:
    """Run the steps of the flow `generate`."""
    if deployment.id:  # users can change the parameters in the Prefect UI, and can name code that is not allowed
        enter_schedule(deployment.id)
    with trained(experiment, options) as made, made.clock("promote") as stage:
        verdict = promote_generator(experiment, made.data, made.generator, made.judge, made.parent)
        stage.result = verdict.reason
    return GeneratorOutcome(
        experiment=experiment.name,
        parent_run_id=made.parent,
        judge=made.judge,
        generator=made.generator,
        notes=made.plan.notes,
        verdict=verdict,
        seconds=made.clock.seconds,
    )


@dataclass(frozen=True)
class Trained:
    """A generator that is trained and measured, but not promoted, and the data of its run.

    Attributes:
        data: The data on which the generator was measured.
        plan: The plan of the run: whether the judge and the generator were trained or reused.
        parent: The id of the MLflow run of the whole command.
        judge: The classifier that measured the generator.
        generator: The generator.
        clock: The clock of the flow.
    """

    data: DataReference
    plan: GeneratorPlan
    parent: str
    judge: TeacherReference
    generator: GeneratorReference
    clock: Clock


@contextmanager
def trained(experiment: GeneratorExperiment, options: Options) -> Iterator[Trained]:
    """Train and measure a generator. The MLflow run of the whole command ends when the `with` block ends."""
    of_judge = experiment.of_judge
    require_all_allowed(of_judge)
    with judge_named(), session(of_judge) as clock:
        with clock("data") as stage:
            read = partial(prepare_data, folder=options.data_dir, quiet=options.quiet)
            data = with_teachers(read(experiment.data), of_judge, read)
            if champion := tracking.champion(experiment.name):
                require_comparable(champion, data)
            stage.result = summaries.data(data)
        with generation(experiment, data, fresh=options.fresh, clock=clock) as (plan, parent):
            with clock("judge") as stage:
                judge = train_teacher(of_judge.teacher, of_judge, data, plan.judge, parent)
                stage.result = summaries.teacher(judge)
            with clock("generator") as stage:
                generator = train_generator(experiment, data, plan.generator, judge, parent)
                stage.result = summaries.generator(generator)
            yield Trained(data, plan, parent, judge, generator, clock)


def plan_only(experiment: GeneratorExperiment, options: Options = DEFAULTS) -> GeneratorPlan:
    """Return the actions that `generate` would take. Nothing is trained or recorded, and no server is needed."""
    tracking.configure()
    read = partial(prepare_data.fn, folder=options.data_dir, quiet=options.quiet)
    with judge_named():
        data = with_teachers(read(experiment.data), experiment.of_judge, read)
        return plan_generator(experiment, data, fresh=options.fresh)
