"""train_generator: train a generator, store it, and measure its images with the judge."""

from collections.abc import Collection

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from kdmodels.device import find_device
from kdmodels.errors import DivergedError
from kdmodels.experiment import GeneratorExperiment
from kdmodels.experiment.user_code import named_modules
from kdmodels.files.temporary import temporary_folder
from kdmodels.generators.build import GeneratorDescription, build_trainer, examples, save_generator
from kdmodels.generators.training import Schedule, Trainer, train_generator
from kdmodels.networks import parameters
from kdmodels.training.replica import Replica
from tasks import tracking
from tasks import training_runs as runs
from tasks.execution import interruption
from tasks.execution.steps import StepWork, begin_step
from tasks.generator_results import NETWORK, log_pictures, measure, record_model
from tasks.prepare_data import load
from tasks.references import DataReference, GeneratorReference, PlannedRun, TeacherReference
from tasks.results import SIZE, untested
from tasks.tracking.tags import Tag

PICTURES = 5  # number of epochs, spread evenly over the training, whose samples are stored


@task(task_run_name="train_generator {step.name}", cache_policy=NO_CACHE)
def train(
    experiment: GeneratorExperiment, data: DataReference, step: PlannedRun, judge: TeacherReference, parent: str
) -> GeneratorReference:
    """Train and measure a generator, and return a reference to its run. If possible, reuse an earlier run.

    Args:
        step: The planned run of the generator.
        judge: The classifier that measures the generated images.
        parent: The id of the generation's run.

    Raises:
        DivergedError: The training diverged.
    """
    tracking.configure()
    if step.action == "reuse":
        assert step.source is not None
        return _reference(step.source, reused=True)
    with begin_step(step, experiment.name) as work:
        run_id = work.finished or _record(experiment, data, work, judge, parent)
    return _reference(run_id, reused=run_id == work.finished)


def _reference(run_id: str, *, reused: bool) -> GeneratorReference:
    """Return the reference to a generator's run, and log the run's warning, if any."""
    run = tracking.get(run_id)
    warnings = [run.tags[Tag.WARNING]] if Tag.WARNING in run.tags else []
    for warning in warnings:
        get_run_logger().warning(warning)
    return GeneratorReference(run_id=run_id, reused=reused, metrics=untested(run.metrics), warnings=warnings)


def _record(
    experiment: GeneratorExperiment, data: DataReference, work: StepWork, judge: TeacherReference, parent: str
) -> str:
    run_id = runs.start(experiment.name, work, data, parent, runs.origin())
    with tracking.recording(run_id):
        description = GeneratorDescription(
            generator=experiment.generator, input_shape=data.input_shape, classes=data.classes
        )
        judging, _ = runs.recorded_network(judge.run_id, named_modules(experiment.of_judge))
        trainer = build_trainer(description, judging, experiment.seed)
        replica = _train(trainer, experiment, data, work, run_id)
        with temporary_folder() as folder:
            save_generator(folder, description, replica.state)
            tracking.log_folder(run_id, folder, NETWORK)
        network = description.build()
        network.load_state_dict(replica.state)
        with runs.timed(run_id, "model"):
            record_model(run_id, description, network.eval())
        tracking.log_metrics(run_id, [(SIZE, parameters(network), 0)])
        with runs.timed(run_id, "measuring"):
            log_pictures(run_id, network, data)
            collapse = measure(run_id, network, data, judging)
        if collapse:
            tracking.set_tags(run_id, {Tag.WARNING: collapse, Tag.COLLAPSE: collapse})
    return run_id


def _train(
    trainer: Trainer, experiment: GeneratorExperiment, data: DataReference, work: StepWork, run_id: str
) -> Replica:
    generator, dataset = experiment.generator, load(data)
    log, checkpoints = runs.EpochLog(run_id), work.checkpoints(run_id, work.step.seeds)
    pictured = pictured_epochs(generator.epochs)

    def on_epoch(epoch: int, replica: Replica) -> None:
        log(epoch, [replica])
        if epoch in pictured:
            log_pictures(run_id, trainer.modules["generator"], data, epoch=epoch)

    with runs.timed(run_id, "training", lambda: checkpoints.seconds):
        replica = train_generator(
            trainer,
            Schedule(generator.epochs, generator.batch),
            *examples(generator, dataset.train, dataset.validation),
            seed=experiment.seed,
            device=find_device(experiment.device),
            on_step=interruption.check,
            on_epoch=on_epoch,
            checkpoints=checkpoints,
        )
    log(len(replica.history), [replica])
    log.flush()
    if replica.diverged:
        raise DivergedError(
            f"generator diverged in epoch {replica.diverged}: {', '.join(replica.culprits)} is not finite. "
            "Lower generator.lr."
        )
    return replica


def pictured_epochs(epochs: int) -> Collection[int]:
    """Return the epochs after which samples are stored. The last epoch is not one of them, see `log_pictures`.

    >>> sorted(pictured_epochs(10)), sorted(pictured_epochs(2))
    ([2, 4, 6, 8], [1])
    """
    return {max(1, epochs * number // PICTURES) for number in range(1, PICTURES)} - {epochs}
