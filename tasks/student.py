"""train_student: one loss variant, all its seeds, in one run, perhaps in another process; prepare: that process."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.torch import load_file, save_file

from kdmodels.data.augment import Augmentation
from kdmodels.device import find_device
from kdmodels.errors import DivergedError
from kdmodels.experiment import Experiment, Variant
from kdmodels.own_code import named_modules
from kdmodels.report.evidence import Right
from kdmodels.temporary import temporary_folder
from kdmodels.training import Checkpoints, Replica, fit
from tasks import interruption, runs, tracking
from tasks.data import load
from tasks.knowledge import load_both
from tasks.plan import describe, threads
from tasks.references import DataReference, KnowledgeReference, Step, StudentReference
from tasks.results import ACCURACY, OWN, REPLICAS, RIGHT, TABLE, read_right, reference, write_right
from tasks.results import replicas as stored_replicas
from tasks.steps import Begun, begun
from tasks.tracking.models import prepare_models
from tasks.workers import done


@task(task_run_name="train_student {step.name}", cache_policy=NO_CACHE)
def train_student(
    variant: Variant,
    experiment: Experiment,
    data: DataReference,
    knowledge: KnowledgeReference | None,
    views: int,
    step: Step,
    parent: str,
    pool: ProcessPoolExecutor | None = None,
) -> StudentReference:
    """The run that holds the variant's replicas: an earlier one, or a new one that trains those that are missing.

    Args:
        knowledge: None for a variant that needs no teacher. views: those of each training image that are stored; 0:
            none, the teacher is live. pool: the processes that train; None: this one does.
    Raises:
        UserError: a place that a term taps does not exist in the student, or a replica diverged.
        UnavailableError: the process that trained it was killed or stopped.
    """
    if step.action == "reuse":
        assert step.source is not None
        student = reference(step.source, reused=True)
    else:
        student = done(pool, _train, variant, experiment, data, knowledge, views, step, parent, runs.origin())
        runs.log_warning(student.run_id)
    # A reused run may have had other names in the comparison that trained it.
    return student.model_copy(update={"variant": variant.name, "control": experiment.control_of(variant).name})


def prepare() -> None:
    """In a worker, before there is a student to train: what every student needs there."""
    tracking.configure()
    prepare_models()


def prepare_if_new(experiment: str) -> None:
    """The same where nothing is known of the experiment, and most of it will be trained, whatever its plan says."""
    tracking.configure()
    if tracking.is_new(experiment):
        prepare_models()


def _train(
    variant: Variant,
    experiment: Experiment,
    data: DataReference,
    knowledge: KnowledgeReference | None,
    views: int,
    step: Step,
    parent: str,
    origin: dict[str, str],
) -> StudentReference:
    """In the process that trains, which need not know of Prefect."""
    tracking.configure()
    runs.use_threads(threads(experiment))
    with begun(step, experiment.name) as work:
        if work.finished:
            return reference(work.finished, reused=True)
        return _record(variant, experiment, data, knowledge, views, work, parent, origin)


def _record(
    variant: Variant,
    experiment: Experiment,
    data: DataReference,
    knowledge: KnowledgeReference | None,
    views: int,
    work: Begun,
    parent: str,
    origin: dict[str, str],
) -> StudentReference:
    """Train the replicas that are missing, or what an interruption left of them, and store all."""
    recipe, step = experiment.student_of(variant), work.step
    run_id = runs.start(experiment.name, work, data, parent, origin, control=experiment.control_of(variant).name)
    with tracking.recording(run_id):
        kept = _read_replicas(step.source, step.seeds) if step.action == "extend" and step.source else []
        missing = [seed for seed in step.seeds if seed not in {replica.seed for replica in kept}]
        log = runs.EpochLog(run_id)
        trained: list[Replica] = []
        if missing:
            checkpoints = work.checkpoints(run_id, missing)
            load(data)  # a worker's first time takes a moment that is not training
            with runs.timed(run_id, "training", lambda: checkpoints.seconds):
                on_epoch = (lambda epoch, replicas: None) if kept else log
                trained = _fit(variant, experiment, data, knowledge, views, missing, on_epoch, checkpoints)
        replicas = sorted([*kept, *trained], key=lambda replica: replica.seed)
        log(runs.last_epoch(replicas), replicas)  # of replicas taken over, only now are all seeds' figures known
        log.finish(replicas, recipe)
        _record_replicas(run_id, replicas, load(data).split_digests["validation"])
        diverged = [_divergence(replica) for replica in replicas if replica.diverged]
        if diverged:
            raise DivergedError(f"diverged, its loss is not finite: {'; '.join(diverged)}; lower its lr or a weight")
        best = max(replicas, key=lambda replica: (replica.figures[ACCURACY], -replica.seed))
        tracking.set_tags(run_id, {"replica": json.dumps({"seed": best.seed, "epoch": best.epoch, **best.figures})})
        runs.record_network(run_id, describe(recipe.network, data), best.state, load(data))
    return reference(run_id, reused=not trained)


def _fit(
    variant: Variant,
    experiment: Experiment,
    data: DataReference,
    knowledge: KnowledgeReference | None,
    views: int,
    seeds: list[int],
    on_epoch: Callable[[int, list[Replica]], None],
    checkpoints: Checkpoints,
) -> list[Replica]:
    recipe, dataset, code = experiment.student_of(variant), load(data), named_modules(experiment)
    return fit(
        describe(recipe.network, data).build(),
        variant.terms,
        recipe,
        dataset.taught if knowledge else dataset.train,
        dataset.validation,
        seeds=seeds,
        knowledge=load_both(knowledge, variant.teacher_places, experiment.device, code) if knowledge else None,
        augmentation=Augmentation(experiment.data.augment, experiment.seed, views),
        device=find_device(experiment.device),
        on_step=interruption.check,
        on_epoch=on_epoch,
        checkpoints=checkpoints,
    )


def _divergence(replica: Replica) -> str:
    first = f", {' and '.join(replica.culprits)} first" if replica.culprits else ""
    return f"seed {replica.seed} in epoch {replica.diverged}{first}"


def _record_replicas(run_id: str, replicas: list[Replica], validation: str) -> None:
    """Every seed's history and weights, from which a later run with other seeds takes what it needs.

    Args:
        validation: the digest of the split on which they were measured.
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
        right = Right(validation, torch.stack([replica.right for replica in replicas]).numpy())
        write_right(folder / RIGHT, {OWN: right})
        (folder / Path(TABLE).name).write_text(json.dumps(table))
        frame = pd.DataFrame([{"seed": r.seed, "epoch": r.epoch, **r.figures} for r in replicas])
        frame.to_csv(folder / "seeds.csv", index=False)
        tracking.log_folder(run_id, folder, REPLICAS)


def _read_replicas(run_id: str, seeds: list[int]) -> list[Replica]:
    folder = tracking.artifact(run_id, REPLICAS)
    rows = stored_replicas(run_id)
    right = torch.from_numpy(read_right(folder / RIGHT)[OWN].outcomes)
    return [
        Replica(
            seed=row["seed"],
            history=row["history"],
            state=load_file(folder / f"seed-{row['seed']}.safetensors"),
            own=load_file(own) if (own := folder / f"seed-{row['seed']}.own.safetensors").exists() else {},
            epoch=row["epoch"],
            diverged=row["diverged"],
            right=right[place],
        )
        for place, row in enumerate(rows)
        if row["seed"] in seeds
    ]
