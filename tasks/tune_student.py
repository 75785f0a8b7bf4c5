"""tune_student: choose the hyperparameters of a student on an inner split of the training data.

A search consists of trials, which train the student with different hyperparameters. The trials are trained on one part
of the training split and compared on the other part. The validation split is not used, because the variants are
compared on it. The search of a variant is one run, which stores the trials in `tuning.csv` and `tuning.png`.

This module imports Optuna and Matplotlib. It is imported when the first search begins, so that comparisons without a
search start sooner.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.data.split import Joined
from kdmodels.experiment.augmentation import CutMix, Mixup
from kdmodels.experiment.tune import Values, axes
from kdmodels.experiment.user_code import named_modules
from kdmodels.files.temporary import temporary_folder
from kdmodels.knowledge import LOGITS, Knowledge, LiveTeacher, distil_knowledge, load_knowledge, store_knowledge
from kdmodels.report.tuning import figure_of_search
from kdmodels.training import Checkpoints, Replica, fit
from kdmodels.training.fit import TeacherOutputs
from kdmodels.training.tuning import Trial, best, propose, results, seed_of_search, setting_of_trial
from tasks import tracking
from tasks import training_runs as runs
from tasks.execution import interruption
from tasks.execution.steps import StepWork, begin_step
from tasks.results import INNER_ACCURACY, TRIALS, TRIALS_PLOT
from tasks.student_job import StudentJob, TrainingInputs, read_inputs
from tasks.tracking.tags import Tag


class Tuning(NamedTuple):
    """The result of a search: the id of its run, and the chosen value of each hyperparameter by name."""

    run_id: str
    values: Values

    @property
    def tags(self) -> dict[str, str]:
        """The tags for the run of the student that is trained with the chosen values."""
        chosen = {f"{Tag.TUNED}.{name}": f"{value:.6g}" for name, value in self.values.items()}
        return {Tag.TUNING: self.run_id, **chosen}


def tune_student(job: StudentJob, origin: dict[str, str]) -> Tuning:
    """Search for the hyperparameters of a student. If an earlier run holds the same search, reuse this run.

    Args:
        job: The job of the student. Its planned run has a search.
        origin: The tags that `runs.origin` returned in the Prefect task.
    """
    assert job.step.tuning is not None
    with begin_step(job.step.tuning, job.experiment.name) as work:
        run_id = work.finished or _record(job, work, origin)
    return Tuning(run_id, json.loads(tracking.get(run_id).tags[Tag.TUNED]))


def _record(job: StudentJob, work: StepWork, origin: dict[str, str]) -> str:
    """Train the trials, or continue their interrupted training. Record all trials in one run, and return its id."""
    rule = job.experiment.tune
    assert rule is not None
    run_id = runs.start(job.experiment.name, work, job.data, job.parent, origin)
    with tracking.recording(run_id):
        proposals = propose(axes(job.variant.terms, job.recipe, rule.space), rule.trials, job.experiment.seed)
        checkpoints, log = work.checkpoints(run_id, work.step.seeds), runs.EpochCount(run_id)
        with runs.timed(run_id, "tuning", lambda: checkpoints.seconds):
            replicas = _fit(job, proposals, log, checkpoints)
        log.flush()
        trials = results(proposals, replicas)
        tracking.log_table(run_id, TRIALS, _table(trials))
        tracking.log_figure(run_id, TRIALS_PLOT, figure_of_search(trials, job.variant.name))
        tracking.set_tags(run_id, {Tag.TUNED: json.dumps(best(trials).values)})
    return run_id


class _InnerData(NamedTuple):
    """The data on which the trials of a search are trained and compared.

    Attributes:
        train: A split that contains the training examples of the trials.
        examples: Indices of the training examples in `train`. `None` if the trials use all examples of `train`.
        knowledge: The teacher's outputs for `train` and for the held-out examples. `None` if the variant needs no
            teacher.
    """

    train: Split
    examples: Tensor | None = None
    knowledge: TeacherOutputs | None = None


def _fit(job: StudentJob, proposals: list[Values], log: runs.EpochCount, checkpoints: Checkpoints) -> list[Replica]:
    """Train one replica per trial on the inner split."""
    rule = job.experiment.tune
    assert rule is not None
    inputs, recipe = read_inputs(job), job.recipe.model_copy(update={"epochs": rule.epochs or job.recipe.epochs})
    _, held = inputs.dataset.inner_rows
    views = min(inputs.augmentation.views, recipe.epochs)  # with fewer epochs, the trials see fewer views
    inputs = inputs._replace(augmentation=replace(inputs.augmentation, views=views))
    with temporary_folder() as folder:
        inner = _inner_data(job, inputs, folder)
        return fit(
            inputs.network,
            job.variant.terms,
            recipe,
            inner.train,
            inputs.dataset.train.take(held),
            seeds=[seed_of_search(job.experiment.seed)] * len(proposals),
            knowledge=inner.knowledge,
            augmentation=inputs.augmentation,
            settings=[setting_of_trial(values, job.variant.terms) for values in proposals],
            examples=inner.examples,
            validate_every=job.data.data.validate_every,
            device=inputs.device,
            on_step=interruption.check,
            on_epoch=log,
            checkpoints=checkpoints,
        )


def _inner_data(job: StudentJob, inputs: TrainingInputs, folder: Path) -> _InnerData:
    """Return the examples on which trials are trained, and the teacher's outputs.

    The held-out examples, on which the trials are compared, are left out of the training examples.

    Args:
        inputs: The network and the data with which the student will be trained after the search.
        folder: An empty folder for teacher outputs that are computed for the search.
    """
    dataset = inputs.dataset
    kept, held = dataset.inner_rows
    pixels = dataset.train.pixel_rows[held]
    if job.variant.equal_steps:
        steps = len(_inner_examples(dataset.distillation_split, pixels))
        return _InnerData(dataset.resized(kept, steps))
    examples = _inner_examples(inputs.train, pixels)
    if not any(isinstance(operation, Mixup | CutMix) for operation in inputs.augmentation.operations):
        return _InnerData(inputs.train, examples, _inner_knowledge(job, inputs, held))
    # Mixup and CutMix mix each image with any image of its split. Therefore the split must not contain held-out images.
    split = inputs.train.take(examples)
    return _InnerData(split, knowledge=_inner_knowledge(job, inputs, held, (split, folder)))


def _inner_examples(split: Split, held: Tensor) -> Tensor:
    """Return the indices of the examples of a split that are not held out.

    Args:
        split: The examples on which the student is trained. If the split is `Joined`, labelled examples come first.
            Unlabelled examples are never held out.
        held: The rows of the held-out images in the array of pixels.
    """
    labelled = split.first if isinstance(split, Joined) else split
    is_held = torch.isin(labelled.pixel_rows, held)
    unlabelled = torch.zeros(len(split) - len(labelled), dtype=torch.bool)
    return torch.nonzero(~torch.cat([is_held, unlabelled])).flatten()


def _inner_knowledge(
    job: StudentJob, inputs: TrainingInputs, held: Tensor, mixed: tuple[Split, Path] | None = None
) -> TeacherOutputs | None:
    """Return the teacher's outputs for the training images of a search, and for the held-out images.

    Stored outputs are reused if possible. Two kinds of outputs may have to be computed:

    - Outputs for the held-out images. The trials are compared on images without augmentation, but the stored outputs
      may be for augmented images.
    - Outputs for training images that Mixup or CutMix mixes. The stored outputs are for images that were mixed with
      held-out images.

    Args:
        held: The indices of the held-out training examples.
        mixed: If images are mixed: the training split without the held-out examples, and an empty folder for its
            outputs. Otherwise `None`.

    Returns:
        A pair: the outputs for each view (augmented version) of the training images, and the outputs for the held-out
        images. If the teacher is live, both are the live teacher. `None` if the variant needs no teacher.
    """
    if inputs.knowledge is None:
        return None
    train, _ = inputs.knowledge
    if isinstance(train, LiveTeacher):
        return train, train
    dataset, of_views = inputs.dataset, [train] if isinstance(train, Knowledge) else train
    same_images = torch.equal(dataset.distilled.pixel_rows, dataset.train.pixel_rows)
    if same_images and not inputs.augmentation.operations:
        (stored,) = of_views  # without augmentation, there is one view
        return of_views, stored.take(held)
    assert job.knowledge is not None
    teacher, _ = runs.recorded_network(job.knowledge.teacher_run_id, named_modules(job.experiment))
    places = job.variant.teacher_places
    views = inputs.augmentation.views
    of_views = _knowledge_of_views(teacher, inputs, places, *mixed) if mixed else of_views[:views]
    return of_views, distil_knowledge(teacher, dataset.train.take(held), places, device=inputs.device)


def _knowledge_of_views(
    teacher: nn.Module, inputs: TrainingInputs, places: Sequence[str], split: Split, folder: Path
) -> list[Knowledge]:
    """Compute the teacher's outputs for each view of a split, store them in a folder, and return them.

    A view is one augmented version of each image.

    Args:
        places: The layers of the teacher whose features are needed.
    """
    folders = [folder / f"{number}" for number in range(inputs.augmentation.views)]
    for epoch, subfolder in enumerate(folders, 1):
        interruption.check()
        view = inputs.augmentation.view(split, epoch)
        store_knowledge(teacher, view, [LOGITS, *places], subfolder, device=inputs.device)
    return [load_knowledge(subfolder, places) for subfolder in folders]


def _table(trials: list[Trial]) -> pd.DataFrame:
    rows = [{"trial": number, **trial.values, INNER_ACCURACY: trial.accuracy} for number, trial in enumerate(trials, 1)]
    return pd.DataFrame(rows)
