"""train_student: train one network for each seed of a variant, and record all these networks in one run.

Each of these networks is called a replica. The training can run in a worker process, which `prepare` prepares.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.torch import load_file, save_file

from kdmodels.errors import DivergedError, UserError
from kdmodels.evaluation.correctness import Correctness
from kdmodels.experiment import Variant
from kdmodels.experiment.terms import Calibrated
from kdmodels.files.temporary import temporary_folder
from kdmodels.training import Calibration, Checkpoints, Replica, fit
from tasks import tracking
from tasks import training_runs as runs
from tasks.cancellation import ended_with
from tasks.disagreements import record_disagreements
from tasks.execution import interruption
from tasks.execution.steps import StepWork, begin_step
from tasks.execution.worker_process import ClusterWorker
from tasks.execution.workers import Workers, run_in
from tasks.planning.keys import flatten, student_params, threads
from tasks.planning.networks import describe
from tasks.prepare_data import load
from tasks.references import CALIBRATED, StudentReference, Views
from tasks.results import (
    ACCURACY,
    CORRECTNESS,
    OWN,
    RATIO,
    REPLICAS,
    TABLE,
    read_correctness,
    reference,
    write_correctness,
)
from tasks.results import replicas as stored_replicas
from tasks.student_job import StudentJob, read_inputs
from tasks.tracking.models import prepare_models
from tasks.tracking.tags import Tag

if TYPE_CHECKING:
    from tasks.tune_student import Tuning


@task(task_run_name="train_student {job.step.name}", cache_policy=NO_CACHE)
def train_student(job: StudentJob, workers: Workers | None = None) -> StudentReference:
    """Train the replicas of a variant, and return the leaderboard row. A replica is the network trained with one seed.

    If an earlier run holds all replicas, the earlier run is reused. Otherwise, a new run is recorded. Its replicas are
    copied from an earlier run or trained. If the experiment has `tune`, hyperparameters are chosen first.

    Args:
        job: The student to train, with its experiment and its data.
        workers: The workers in which students are trained. Default: train in this process.

    Raises:
        UserError: a loss term needs the features of a layer that the student does not have.
        DivergedError: a replica diverged.
        UnavailableError: the process that trained the student was killed or stopped.
    """
    if isinstance(workers, ClusterWorker):
        workers.take_over()
        tracking.configure()
    if job.step.action == "reuse":
        assert job.step.source is not None
        student = reference(job.step.source, reused=True)
    else:
        work = _train_elsewhere if isinstance(workers, ClusterWorker) else _train
        student = run_in(workers, work, job, runs.origin())
        runs.log_warning(student.run_id)
    # In the comparison that trained a reused run, the variant and its control may have had other names.
    names = {"variant": job.variant.name, "control": job.control, "grid": job.variant.grid}
    return student.model_copy(update=names)


def prepare() -> None:
    """Connect a worker process to the MLflow store, and import modules so that the first student starts sooner."""
    tracking.configure()
    prepare_models()


def prepare_if_new(experiment: str) -> None:
    """Prepare a worker process if the experiment is new, i.e. if the store has no run of the experiment.

    Most students of a new experiment must be trained, so the preparation does not have to wait for the plan.
    """
    tracking.configure()
    if tracking.is_new(experiment):
        prepare_models()


def _train_elsewhere(job: StudentJob, origin: dict[str, str]) -> StudentReference:
    """Train a student in a worker of a cluster. See `_train`.

    Raises:
        UserError: the student's cache key would differ on this worker, e.g. because its packages differ.
    """
    views, teacher_key = Views(count=job.views, reason=""), str(job.step.params.get("teacher", ""))
    params = student_params(job.variant, job.experiment, job.data, teacher_key, views)
    for name, here in flatten(params).items():
        if here != job.step.params.get(name):
            raise UserError(
                f"runner: the worker on {gethostname()} has {name}: {here}, but the plan has "
                f"{job.step.params.get(name)}. Allowed: workers with the same packages and modules as this machine"
            )
    with ended_with(job.parent):
        return _train(job, origin)


def _train(job: StudentJob, origin: dict[str, str]) -> StudentReference:
    """Train a student in this process, which may be a worker process without a Prefect context.

    Args:
        origin: The tags that `runs.origin` returned in the Prefect task.
    """
    tracking.configure()
    runs.use_threads(threads(job.experiment))
    with begin_step(job.step, job.experiment.name, job.parent) as work:
        if work.finished:
            return reference(work.finished, reused=True)
        return _record(job, work, origin)


def _record(job: StudentJob, work: StepWork, origin: dict[str, str]) -> StudentReference:
    """Train the missing replicas, or continue their interrupted training. Record all replicas in one run.

    Args:
        work: The planned run, and the interrupted run to continue, if any.
        origin: The tags that `runs.origin` returned in the Prefect task.
    """
    step = job.step
    tuning = _tune(job, origin) if step.tuning else None
    tuned = job.with_values(tuning.values) if tuning else job
    run_id = runs.start(job.experiment.name, work, job.data, job.parent, origin, control=job.control)
    with tracking.recording(run_id):
        if tuning:
            tracking.set_tags(run_id, tuning.tags)
        kept = _read_replicas(step.source, step.seeds) if step.action == "extend" and step.source else []
        missing = [seed for seed in step.seeds if seed not in {replica.seed for replica in kept}]
        dataset, log = load(job.data), runs.EpochLog(run_id)
        trained: list[Replica] = []
        # Loss weights that were calibrated before are used again. Then an interrupted training continues with the same
        # loss weights on every device, and all replicas of a run have the same loss weights.
        earlier = _calibration_of(tuned.variant, step.source if kept and step.source else work.taken_over or run_id)
        tuned = tuned.with_weights(earlier.weights)
        on_calibration = partial(_log_calibration, run_id, job.variant)
        if missing:
            checkpoints = work.checkpoints(run_id, missing)
            with runs.timed(run_id, "training", lambda: checkpoints.seconds):
                on_epoch = (lambda epoch, replicas: None) if kept else log
                trained = _fit(tuned, missing, on_epoch, on_calibration, checkpoints)
        else:
            on_calibration(Calibration(tuned.variant.terms, earlier.ratios))
        replicas = sorted([*kept, *trained], key=lambda replica: replica.seed)
        log(runs.last_epoch(replicas), replicas)  # if replicas were copied, all epochs are logged here
        log.finish(replicas, job.recipe)
        _record_replicas(run_id, replicas, dataset.split_digests["validation"])
        diverged = [_divergence(replica) for replica in replicas if replica.diverged]
        if diverged:
            raise DivergedError(
                f"diverged, the loss is not finite: {'; '.join(diverged)}. Lower the learning rate or a term's weight."
            )
        best = max(replicas, key=lambda replica: (replica.figures[ACCURACY], -replica.seed))
        tracking.set_tags(run_id, {Tag.REPLICA: json.dumps({"seed": best.seed, "epoch": best.epoch, **best.figures})})
        logits = runs.record_network(run_id, describe(job.recipe.network, job.data), best.state, dataset)
        record_disagreements(run_id, tuned, logits)
    return reference(run_id, reused=not trained)


def _tune(job: StudentJob, origin: dict[str, str]) -> "Tuning":
    """Search for the hyperparameters of a student, or reuse an earlier search. See `tune_student`."""
    from tasks.tune_student import tune_student  # noqa: PLC0415 - imports Optuna and Matplotlib, which take about 0.5 s

    return tune_student(job, origin)


class _EarlierCalibration(NamedTuple):
    """The calibrated loss weights and the gradient ratios that a run has recorded, by the name of the loss.

    See `_log_calibration` for the ratios.
    """

    weights: dict[str, float]
    ratios: dict[str, float]


def _calibration_of(variant: Variant, run_id: str) -> _EarlierCalibration:
    """Return the calibration that a run has recorded for a variant. Losses without a recorded value are left out."""
    run = tracking.get(run_id)
    losses = [term.loss for term in variant.terms]
    return _EarlierCalibration(
        {loss: float(run.params[CALIBRATED + loss]) for loss in losses if CALIBRATED + loss in run.params},
        {loss: run.metrics[RATIO + loss] for loss in losses if RATIO + loss in run.metrics},
    )


def _log_calibration(run_id: str, variant: Variant, calibration: Calibration) -> None:
    """Log calibrated weights as params, and gradient ratios as metrics.

    The gradient ratio of a term is the norm of its weighted gradient, divided by the norm of the gradient of cross
    entropy at weight 1.

    Args:
        variant: The variant before the calibration, in which some weights are still `auto`.
        calibration: The result of the calibration. Only weights that were `auto` are logged.
    """
    weights = {
        CALIBRATED + term.loss: calibrated.factor
        for term, calibrated in zip(variant.terms, calibration.terms, strict=True)
        if isinstance(term.weight, Calibrated)
    }
    tracking.log_params(run_id, weights)
    tracking.log_metrics(run_id, [(RATIO + loss, ratio, 0) for loss, ratio in calibration.ratios.items()])


def _fit(
    job: StudentJob,
    seeds: list[int],
    on_epoch: Callable[[int, list[Replica]], None],
    on_calibration: Callable[[Calibration], None],
    checkpoints: Checkpoints,
) -> list[Replica]:
    inputs = read_inputs(job)
    return fit(
        inputs.network,
        job.variant.terms,
        job.recipe,
        inputs.train,
        inputs.dataset.validation,
        seeds=seeds,
        knowledge=inputs.knowledge,
        augmentation=inputs.augmentation,
        device=inputs.device,
        on_step=interruption.check,
        on_epoch=on_epoch,
        on_calibration=on_calibration,
        checkpoints=checkpoints,
        validate_every=job.data.data.validate_every,
    )


def _divergence(replica: Replica) -> str:
    """Describe the divergence of a replica: its seed, its epoch, and the terms that first became infinite or NaN."""
    first = f", {' and '.join(replica.culprits)} first" if replica.culprits else ""
    return f"seed {replica.seed} in epoch {replica.diverged}{first}"


def _record_replicas(run_id: str, replicas: list[Replica], validation: str) -> None:
    """Store the history and weights of every replica, so that later runs with some of the same seeds can reuse them.

    Args:
        validation: The digest of the validation split on which the replicas were measured.
    """
    table = [
        {"seed": r.seed, "epoch": r.epoch, "diverged": r.diverged, "figures": r.figures, "history": r.history}
        for r in replicas
    ]
    with temporary_folder() as folder:
        for replica in replicas:
            save_file(replica.state, folder / f"seed-{replica.seed}.safetensors")
            if replica.own:
                save_file(replica.own, folder / f"seed-{replica.seed}.own.safetensors")
        correctness = Correctness(validation, torch.stack([replica.is_correct for replica in replicas]).numpy())
        write_correctness(folder / CORRECTNESS, {OWN: correctness})
        (folder / Path(TABLE).name).write_text(json.dumps(table))
        frame = pd.DataFrame([{"seed": r.seed, "epoch": r.epoch, **r.figures} for r in replicas])
        frame.to_csv(folder / "seeds.csv", index=False)
        tracking.log_folder(run_id, folder, REPLICAS)


def _read_replicas(run_id: str, seeds: list[int]) -> list[Replica]:
    """Read the replicas that have these seeds from an earlier run."""
    folder = tracking.artifact(run_id, REPLICAS)
    rows = stored_replicas(run_id)
    outcomes = torch.from_numpy(read_correctness(folder / CORRECTNESS)[OWN].outcomes)
    return [
        Replica(
            seed=row["seed"],
            history=row["history"],
            state=load_file(folder / f"seed-{row['seed']}.safetensors"),
            own=load_file(own) if (own := folder / f"seed-{row['seed']}.own.safetensors").exists() else {},
            epoch=row["epoch"],
            diverged=row["diverged"],
            is_correct=outcomes[place],
        )
        for place, row in enumerate(rows)
        if row["seed"] in seeds
    ]
