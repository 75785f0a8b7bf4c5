"""train_teacher: train a teacher, or read it from a checkpoint or the registry.

join_teachers: record an ensemble of teachers as one teacher.
"""

import json
from collections.abc import Collection, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from torch import Tensor, nn

from kdmodels.data.augment import Augmentation
from kdmodels.device import find_device
from kdmodels.errors import DivergedError, UserError
from kdmodels.evaluation.chance import compare_with_chance
from kdmodels.evaluation.flops import FLOPS
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Experiment
from kdmodels.experiment.recipe import Member
from kdmodels.experiment.user_code import named_modules
from kdmodels.knowledge import LOGITS, require_finite
from kdmodels.losses import ensemble_logits
from kdmodels.networks import Description
from kdmodels.randomness import TEACHER_SEEDS
from kdmodels.training import fit
from tasks import tracking
from tasks import training_runs as runs
from tasks.cross_validation import Fold
from tasks.execution import interruption
from tasks.execution.steps import StepWork, begin_step
from tasks.planning.networks import checkpoint_network, describe_teacher, registered_teacher
from tasks.planning.objectives import supervision
from tasks.planning.warnings import at_chance
from tasks.prepare_data import load
from tasks.references import DataReference, PlannedRun, TeacherReference
from tasks.results import ACCURACY, SIZE
from tasks.tracking.tags import Tag
from tasks.ui.assets import publish_teacher


def train_teachers(fold: Fold) -> TeacherReference:
    """Train or reuse the teacher of a fold.

    If the teacher is an ensemble, its members are trained or reused first, and then the ensemble is recorded.
    """
    experiment, data, plan, parent = fold.experiment, fold.data, fold.plan, fold.parent
    if not plan.members or plan.teacher.action == "reuse":
        teacher = train_teacher(experiment.teacher, experiment, data, plan.teacher, parent)
    else:
        steps = zip(experiment.teacher.members, plan.members, strict=True)
        members = [train_teacher(member, experiment, data, step, parent) for member, step in steps]
        teacher = join_teachers(experiment, data, plan.teacher, members, parent)
    publish_teacher(teacher, experiment.name)
    return teacher


@task(task_run_name="train_teacher {step.name}", cache_policy=NO_CACHE)
def train_teacher(
    teacher: Member, experiment: Experiment, data: DataReference, step: PlannedRun, parent: str | None
) -> TeacherReference:
    """Train a teacher or a member of an ensemble, and return a reference to its run.

    If an earlier run can be reused, nothing is trained. If the experiment file names a checkpoint or a registered
    model, the weights are not trained but read, and recorded in a new run.

    Args:
        teacher: The teacher, or one member of the ensemble.
        data: The data of the students. The teacher is validated on their validation split.
        step: The planned run of the teacher.
        parent: The id of the comparison's run. `None` if the teacher is not part of a comparison.

    Raises:
        UserError: the checkpoint or the registered model cannot be read or does not fit the data, or some outputs of
            its network are NaN or infinite.
        DivergedError: the training diverged.
    """
    tracking.configure()
    if step.action == "reuse":
        assert step.source is not None
        return _reference(step, step.source, data, reused=True)
    with begin_step(step, experiment.name) as work:
        run_id = work.finished or _record(teacher, experiment, data, work, parent)
    runs.log_warning(run_id)
    return _reference(step, run_id, data, reused=run_id == work.finished)


@task(task_run_name="join_teachers {step.name}", cache_policy=NO_CACHE)
def join_teachers(
    experiment: Experiment, data: DataReference, step: PlannedRun, members: Sequence[TeacherReference], parent: str
) -> TeacherReference:
    """Record an ensemble as one teacher, and return a reference to its run. If possible, reuse an earlier run.

    The run records the ids of the members' runs and the accuracy of the ensemble. The ensemble predicts the mean of
    the members' class probabilities.
    """
    tracking.configure()
    with begin_step(step, experiment.name) as work:
        run_id = work.finished or _record_ensemble(experiment, data, work, members, parent)
    return _reference(step, run_id, data, reused=run_id == work.finished)


def _reference(step: PlannedRun, run_id: str, data: DataReference, *, reused: bool) -> TeacherReference:
    """Return the reference to a teacher's run. If the teacher is no better than chance, log and return a warning."""
    run, labels = tracking.get(run_id), load(data).validation.labels.numpy()
    chance = compare_with_chance(round(run.metrics[ACCURACY] * len(labels)), labels)
    warnings = at_chance(step.name, chance)
    for warning in warnings:
        get_run_logger().warning(warning)
        if not reused:
            runs.add_warning(run_id, warning)
    return TeacherReference(run_id=run_id, reused=reused, metrics=run.metrics, warnings=warnings)


def _record(teacher: Member, experiment: Experiment, data: DataReference, work: StepWork, parent: str | None) -> str:
    dataset = load(data)
    run_id = runs.start(experiment.name, work, data.of(teacher), parent, runs.origin())
    with tracking.recording(run_id):
        if teacher.checkpoint or teacher.registry:
            network, description = _read(teacher, data, named_modules(experiment))
            logits = predict(network, dataset.validation, find_device(experiment.device))
            try:
                require_finite(logits, LOGITS)
            except UserError as error:
                raise UserError(f"{work.step.name}: {error}") from error
            runs.record_network(run_id, description, network.cpu().state_dict(), dataset)
            accuracy = (logits.argmax(dim=1) == dataset.validation.labels).double().mean().item()
            tracking.log_metrics(run_id, [(ACCURACY, accuracy, 0)])
        else:
            description, state = _train(teacher, experiment, data, work, run_id)
            runs.record_network(run_id, description, state, dataset)
    return run_id


def _record_ensemble(
    experiment: Experiment, data: DataReference, work: StepWork, members: Sequence[TeacherReference], parent: str
) -> str:
    dataset = load(data)
    run_id = runs.start(experiment.name, work, data, parent, runs.origin())
    with tracking.recording(run_id):
        tracking.set_tags(run_id, {Tag.MEMBERS: json.dumps([member.run_id for member in members])})
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
    teacher: Member, experiment: Experiment, data: DataReference, work: StepWork, run_id: str
) -> tuple[Description, dict[str, Tensor]]:
    description = describe_teacher(teacher, data)
    log, checkpoints = runs.EpochLog(run_id), work.checkpoints(run_id, work.step.seeds)
    with runs.timed(run_id, "training", lambda: checkpoints.seconds):
        (replica,) = fit(
            description.build(),
            [supervision(teacher)],
            teacher,
            load(data.of(teacher)).train,
            load(data).validation,
            seeds=[TEACHER_SEEDS + seed for seed in work.step.seeds],
            device=find_device(experiment.device),
            augmentation=Augmentation(experiment.teacher_augment(teacher), experiment.seed),
            on_step=interruption.check,
            on_epoch=log,
            checkpoints=checkpoints,
            validate_every=data.of(teacher).data.validate_every,
        )
    log(len(replica.history), [replica])
    log.finish([replica], teacher)
    if replica.diverged:
        raise DivergedError(
            f"{work.step.name} diverged in epoch {replica.diverged}: the loss is not finite. Lower the learning rate."
        )
    return description, replica.state


def _read(teacher: Member, data: DataReference, code: Collection[str]) -> tuple[nn.Module, Description]:
    if teacher.checkpoint:
        return checkpoint_network(teacher, data)
    assert teacher.registry is not None
    return registered_teacher(teacher.registry, data, code)
