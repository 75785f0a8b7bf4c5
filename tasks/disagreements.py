"""The validation images on which student and teacher disagree most, for reports and for the runs of students."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from kdmodels.data import Split
from kdmodels.errors import redacted
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Term
from kdmodels.experiment.user_code import named_modules
from kdmodels.knowledge import LiveTeacher
from kdmodels.losses import ensemble_logits
from kdmodels.report.pictures import to_png
from kdmodels.report.predictions import Disagreement, class_shares, most_different
from kdmodels.report.sections.disagreement import disagreement_picture
from tasks import tracking
from tasks import training_runs as runs
from tasks.distil_knowledge import load_both
from tasks.prepare_data import load
from tasks.results import DISAGREEMENTS, FIGURES
from tasks.student_job import StudentJob

PICTURES = 8  # number of images that are shown
MOST_PROBABILITIES = 20_000_000  # maximum number of images times number of classes; needs 160 MB
TEMPERATURE = 4.0  # probabilities are shown at temperature 1 and at this one, if no loss term has a temperature


def record_disagreements(run_id: str, job: StudentJob, logits: Tensor) -> None:
    """Store a picture of the images on which a student and the teacher disagree most, with the student's run.

    A student that learns from labels alone gets no picture, because it may be trained before the teacher. If the
    picture can't be made, the run gets a warning.

    Args:
        run_id: The id of the student's run.
        job: The job of the student, with the hyperparameters of its training.
        logits: The logits of the student's stored network for the N validation images, (N, K).
    """
    if job.knowledge is None:
        return
    try:
        split, classes = load(job.data).validation, job.data.classes
        rows = evenly_spaced(len(split), len(classes))
        pair = logits[rows], _teacher_logits(job)[rows]
        disagreements = find_disagreements(*pair, temperature_of(job.variant.terms), split.take(rows))
        if disagreements:
            picture = disagreement_picture(disagreements, classes)
            tracking.log_files(run_id, FIGURES, {DISAGREEMENTS: picture})
    except Exception as error:
        reason = redacted(f"{type(error).__name__}: {error}")
        runs.add_warning(run_id, f"the images of disagreements were not recorded: {reason}")


def evenly_spaced(examples: int, classes: int) -> Tensor:
    """Return the indices of the validation images to compare: all images, or evenly spaced images if there are many.

    Args:
        examples: The number of validation images.
        classes: The number of classes. With more classes, fewer images are compared.
    """
    count = min(examples, MOST_PROBABILITIES // classes)
    return torch.linspace(0, examples - 1, count).round().long()


def temperature_of(terms: Iterable[Term]) -> float:
    """Return the first temperature other than 1 in the loss terms. If there is none, return `TEMPERATURE`."""
    temperatures = [term.hyperparameters.get("temperature") for term in terms]
    return next((float(value) for value in temperatures if value is not None and float(value) != 1), TEMPERATURE)


def softmax(logits: Tensor, temperature: float = 1.0) -> np.ndarray:
    """Return the probabilities of K classes, (N, K).

    Args:
        logits: Logits, (N, K), or (N, M, K) of the M members of an ensemble.
        temperature: The number by which the logits are divided.
    """
    logits = logits.double()
    if logits.dim() == 3:
        logits = ensemble_logits(logits, temperature=temperature)
    return (logits / temperature).softmax(dim=1).numpy()


def find_disagreements(student: Tensor, teacher: Tensor, temperature: float, split: Split) -> list[Disagreement]:
    """Return the images on which student and teacher disagree most at temperature 1, the largest disagreement first.

    Args:
        student: The student's logits, (N, K).
        teacher: The teacher's logits, (N, K), or (N, M, K) of the M members of an ensemble.
        temperature: The class probabilities of each image are shown at temperature 1 and at this temperature.
        split: The split with the N images.
    """
    pairs = {value: (softmax(student, value), softmax(teacher, value)) for value in (1.0, temperature)}
    rows = most_different(*pairs[1.0], PICTURES)
    images = split.batch(torch.tensor(rows, dtype=torch.int64)).numpy()  # (P, C, H, W)
    return [
        Disagreement(
            label=int(split.labels[row]),
            picture=to_png(image),
            shares={value: class_shares(first[row], second[row]) for value, (first, second) in pairs.items()},
        )
        for row, image in zip(rows, images, strict=True)
    ]


def _teacher_logits(job: StudentJob) -> Tensor:
    """Return the teacher's logits for the validation images, (N, K), or (N, M, K) for an ensemble.

    The same logits were used for the student's validation loss.
    """
    assert job.knowledge is not None
    _, held = load_both(job.knowledge, [], job.experiment.device, named_modules(job.experiment))
    if isinstance(held, LiveTeacher):
        return predict(held.network, load(job.data).validation, held.device)
    return held.logits
