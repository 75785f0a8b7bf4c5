"""train_teacher: train the teacher, or read it from a checkpoint or the registry."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor

from kdmodels.data import Dataset
from kdmodels.data.augment import Augmentation
from kdmodels.device import find_device
from kdmodels.errors import UserError
from kdmodels.evaluation import correct
from kdmodels.experiment import Experiment, Teacher
from kdmodels.networks import Description, read_state
from kdmodels.networks.storage import fill
from kdmodels.terms import Term
from kdmodels.training import fit
from tasks import interruption, runs, tracking
from tasks.data import load
from tasks.plan import checkpoint, describe, registered_teacher
from tasks.references import DataReference, Step, TeacherReference

TEACHER_SEEDS = 2**33  # beyond every student's: no replica begins as its teacher did, or sees its batches


@task(cache_policy=NO_CACHE)
def train_teacher(experiment: Experiment, data: DataReference, step: Step, parent: str) -> TeacherReference:
    """The run that holds the teacher: an earlier one, or a new one that trains or reads it.

    Raises:
        UserError: the checkpoint or the registered model can't be read, or does not fit the data; or the training
            diverged.
    """
    tracking.configure()
    if step.source:
        return TeacherReference(run_id=step.source, reused=True, metrics=tracking.get(step.source).metrics)
    dataset = load(data)
    run_id = runs.start(experiment.name, step, data, parent)
    with tracking.recording(run_id):
        if experiment.teacher.checkpoint or experiment.teacher.registry:
            description, state = _read(experiment, data)
            network = runs.record_network(run_id, description, state, dataset)
            accuracy = correct(network, dataset.validation, find_device(experiment.device)).double().mean().item()
            tracking.log_metrics(run_id, [("val/accuracy", accuracy, 0)])
        else:
            description, state = _train(experiment, data, dataset, run_id)
            runs.record_network(run_id, description, state, dataset)
    return TeacherReference(run_id=run_id, reused=False, metrics=tracking.get(run_id).metrics)


def _train(
    experiment: Experiment, data: DataReference, dataset: Dataset, run_id: str
) -> tuple[Description, dict[str, Tensor]]:
    teacher = experiment.teacher
    assert teacher.network is not None
    description = describe(teacher.network, data)
    log = runs.EpochLog(run_id)
    (replica,) = fit(
        description.build(),
        [_loss(teacher)],
        teacher,
        dataset.train,
        dataset.validation,
        seeds=[TEACHER_SEEDS + experiment.seed],
        device=find_device(experiment.device),
        augmentation=Augmentation(experiment.data.augment, experiment.seed),
        on_step=interruption.check,
        on_epoch=log,
    )
    log.finish([replica], teacher)
    if replica.diverged:
        raise UserError(f"the teacher diverged in epoch {replica.diverged}: its loss is not finite; lower its lr")
    return description, replica.state


def _loss(teacher: Teacher) -> Term:
    if not teacher.label_smoothing:
        return Term(loss="hard_labels")
    return Term(loss="label_smoothing", hyperparameters={"epsilon": teacher.label_smoothing})


def _read(experiment: Experiment, data: DataReference) -> tuple[Description, dict[str, Tensor]]:
    teacher = experiment.teacher
    if teacher.checkpoint:
        assert teacher.network is not None
        description = describe(teacher.network, data)
        network = description.build(pretrained=False)
        path = checkpoint(teacher.checkpoint, data)
        fill(network, read_state(path), path)
        return description, network.state_dict()
    assert teacher.registry is not None
    network, description = registered_teacher(teacher.registry, data)
    return description, network.state_dict()
