"""train_teacher: train a teacher, or read it from a checkpoint or the registry; join_teachers: an ensemble of them."""

import json
from collections.abc import Collection, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor

from kdmodels.costs import FLOPS
from kdmodels.data.augment import Augmentation
from kdmodels.device import find_device
from kdmodels.errors import DivergedError
from kdmodels.evaluation import correct, predict
from kdmodels.experiment import Experiment
from kdmodels.losses import ensemble_logits
from kdmodels.networks import Description, read_state
from kdmodels.networks.storage import fill
from kdmodels.own_code import named_modules
from kdmodels.randomness import TEACHER_SEEDS
from kdmodels.recipe import Member
from kdmodels.training import fit
from tasks import interruption, runs, tracking
from tasks.data import load
from tasks.plan import checkpoint, describe, registered_teacher, supervision
from tasks.references import DataReference, Step, TeacherReference
from tasks.results import ACCURACY, MEMBERS, SIZE
from tasks.steps import Begun, begun


@task(task_run_name="train_teacher {step.name}", cache_policy=NO_CACHE)
def train_teacher(
    teacher: Member, experiment: Experiment, data: DataReference, step: Step, parent: str
) -> TeacherReference:
    """The run that holds a teacher, or one of an ensemble: an earlier one, or a new one that trains or reads it.

    Raises:
        UserError: the checkpoint or the registered model can't be read, or does not fit the data; or the training
            diverged.
    """
    tracking.configure()
    if step.action == "reuse":
        assert step.source is not None
        return TeacherReference(run_id=step.source, reused=True, metrics=tracking.get(step.source).metrics)
    with begun(step, experiment.name) as work:
        run_id = work.finished or _record(teacher, experiment, data, work, parent)
    runs.log_warning(run_id)
    return TeacherReference(run_id=run_id, reused=run_id == work.finished, metrics=tracking.get(run_id).metrics)


@task(cache_policy=NO_CACHE)
def join_teachers(
    experiment: Experiment, data: DataReference, step: Step, members: Sequence[TeacherReference], parent: str
) -> TeacherReference:
    """The run of an ensemble: which runs its members are, and how good the mean of their distributions is."""
    tracking.configure()
    with begun(step, experiment.name) as work:
        run_id = work.finished or _record_ensemble(experiment, data, work, members, parent)
    return TeacherReference(run_id=run_id, reused=run_id == work.finished, metrics=tracking.get(run_id).metrics)


def _record(teacher: Member, experiment: Experiment, data: DataReference, work: Begun, parent: str) -> str:
    dataset = load(data)
    run_id = runs.start(experiment.name, work, data, parent, runs.origin())
    with tracking.recording(run_id):
        if teacher.checkpoint or teacher.registry:
            description, state = _read(teacher, data, named_modules(experiment))
            network = runs.record_network(run_id, description, state, dataset)
            accuracy = correct(network, dataset.validation, find_device(experiment.device)).double().mean().item()
            tracking.log_metrics(run_id, [("val/accuracy", accuracy, 0)])
        else:
            description, state = _train(teacher, experiment, data, work, run_id)
            runs.record_network(run_id, description, state, dataset)
    return run_id


def _record_ensemble(
    experiment: Experiment, data: DataReference, work: Begun, members: Sequence[TeacherReference], parent: str
) -> str:
    dataset = load(data)
    run_id = runs.start(experiment.name, work, data, parent, runs.origin())
    with tracking.recording(run_id):
        tracking.set_tags(run_id, {MEMBERS: json.dumps([member.run_id for member in members])})
        network, _ = runs.recorded_network(run_id, named_modules(experiment))
        logits = ensemble_logits(predict(network, dataset.validation, find_device(experiment.device)))
        accuracy = (logits.argmax(dim=1) == dataset.validation.labels).double().mean().item()
        sizes = [
            (name, sum(member.metrics[name] for member in members), 0)
            for name in (SIZE, "size/file_mb", FLOPS)
            if all(name in member.metrics for member in members)
        ]
        tracking.log_metrics(run_id, [(ACCURACY, accuracy, 0), *sizes])
        runs.record_classes(run_id, logits, dataset)
    return run_id


def _train(
    teacher: Member, experiment: Experiment, data: DataReference, work: Begun, run_id: str
) -> tuple[Description, dict[str, Tensor]]:
    dataset = load(data)
    assert teacher.network is not None
    description = describe(teacher.network, data)
    log, checkpoints = runs.EpochLog(run_id), work.checkpoints(run_id, work.step.seeds)
    with runs.timed(run_id, "training", lambda: checkpoints.seconds):
        (replica,) = fit(
            description.build(),
            [supervision(teacher)],
            teacher,
            dataset.train,
            dataset.validation,
            seeds=[TEACHER_SEEDS + seed for seed in work.step.seeds],
            device=find_device(experiment.device),
            augmentation=Augmentation(experiment.data.augment, experiment.seed),
            on_step=interruption.check,
            on_epoch=log,
            checkpoints=checkpoints,
        )
    log(len(replica.history), [replica])
    log.finish([replica], teacher)
    if replica.diverged:
        raise DivergedError(
            f"{work.step.name} diverged in epoch {replica.diverged}: its loss is not finite; lower its lr"
        )
    return description, replica.state


def _read(teacher: Member, data: DataReference, code: Collection[str]) -> tuple[Description, dict[str, Tensor]]:
    if teacher.checkpoint:
        assert teacher.network is not None
        description = describe(teacher.network, data)
        network = description.build(pretrained=False)
        path = checkpoint(teacher.checkpoint, data)
        fill(network, read_state(path), path)
        return description, network.state_dict()
    assert teacher.registry is not None
    network, description = registered_teacher(teacher.registry, data, code)
    return description, network.state_dict()
