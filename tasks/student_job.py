"""The input of a task that trains a student, and the data and knowledge that the task reads before the training."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from kdmodels.data import Dataset, Split
from kdmodels.data.augment import Augmentation
from kdmodels.device import find_device
from kdmodels.experiment import Experiment, Variant
from kdmodels.experiment.recipe import Student
from kdmodels.experiment.tune import LR, Values, tuned_terms
from kdmodels.experiment.user_code import named_modules
from kdmodels.training.fit import TeacherOutputs
from tasks.distil_knowledge import load_both
from tasks.planning.networks import describe
from tasks.prepare_data import load
from tasks.references import DataReference, KnowledgeReference, PlannedRun, Reference


class StudentJob(Reference):
    """The complete input of one `train_student` task.

    Attributes:
        step: The planned run of the student.
        knowledge: The reference to the teacher's outputs. `None` if the variant needs no teacher.
        views: The number of augmented versions of each training image for which teacher outputs are stored. 0 means
            that the outputs are computed during the training.
        parent: The id of the comparison's run.
    """

    variant: Variant
    step: PlannedRun
    experiment: Experiment
    data: DataReference
    knowledge: KnowledgeReference | None = None
    views: int
    parent: str

    @property
    def recipe(self) -> Student:
        """The recipe with which the student is trained."""
        return self.experiment.student_of(self.variant)

    @property
    def control(self) -> str:
        """The name of the variant that the student is compared with."""
        return self.experiment.control_of(self.variant).name

    def with_values(self, values: Values) -> "StudentJob":
        """Return a copy of the job with the hyperparameters of a trial.

        The copy has no control. A control must have the same settings as its student, but no variant of the experiment
        has the settings of the trial.
        """
        student = self.recipe.with_lr(values[LR])
        variant = self.variant.model_copy(update={"terms": tuned_terms(self.variant.terms, values), "student": student})
        return self.model_copy(update={"variant": variant})

    def with_weights(self, weights: Mapping[str, float]) -> "StudentJob":
        """Return a copy of the job in which loss terms have new weights.

        Args:
            weights: The new weights by the name of the loss. Other terms keep their weights.
        """
        terms = [
            term.model_copy(update={"weight": weights[term.loss]}) if term.loss in weights else term
            for term in self.variant.terms
        ]
        return self.model_copy(update={"variant": self.variant.model_copy(update={"terms": terms})})


class TrainingInputs(NamedTuple):
    """The network of a student, and the data on which it is trained.

    Attributes:
        train: The split on which the student is trained. An epoch is one pass over this split.
        knowledge: The teacher's outputs. `None` if the variant needs no teacher.
    """

    network: nn.Module
    dataset: Dataset
    train: Split
    knowledge: TeacherOutputs | None
    augmentation: Augmentation
    device: torch.device


def read_inputs(job: StudentJob) -> TrainingInputs:
    """Build the network of a student, and read the data on which the student is trained."""
    dataset, device, code = load(job.data), job.experiment.device, named_modules(job.experiment)
    return TrainingInputs(
        network=describe(job.recipe.network, job.data).build(),
        dataset=dataset,
        train=_training_split(job, dataset),
        knowledge=load_both(job.knowledge, job.variant.teacher_places, device, code) if job.knowledge else None,
        augmentation=Augmentation(job.experiment.student_augment, job.experiment.seed, job.views),
        device=find_device(device),
    )


def _training_split(job: StudentJob, dataset: Dataset) -> Split:
    """Return the split on which the student is trained.

    Distilled students also learn from unlabelled images. For a control with `equal_steps`, labelled examples are
    repeated, so that the control gets the same number of examples.
    """
    if job.knowledge:
        return dataset.distillation_split
    return dataset.repeated if job.variant.equal_steps else dataset.train
