"""The predictions of the winner, its control and the teacher for the validation images, for a comparison's report.

Students predict by their stored ONNX files, as they are served. The teacher's logits are those that the students were
trained with, in half precision, or are computed if they are not stored. The test split is not read.
"""

import numpy as np
import torch
from torch import Tensor

from kdmodels.data import Split
from kdmodels.device import find_device
from kdmodels.evaluation.predictions import predict, served_logits
from kdmodels.experiment import Experiment
from kdmodels.experiment.user_code import named_modules
from kdmodels.losses import ensemble_logits
from kdmodels.report.pictures import to_png
from kdmodels.report.predictions import Disagreement, Predictions, Role, class_shares, most_different, summarise
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.distil_knowledge import validation_logits
from tasks.prepare_data import load
from tasks.references import LeaderboardReference
from tasks.results import PREDICTIONS
from tasks.served_models import run_model
from tasks.training_runs import recorded_network

PICTURES = 8  # images on which student and teacher disagree most
MOST_PROBABILITIES = 20_000_000  # of each network: images times classes. They need 160 MB
TEMPERATURE = 4.0  # of the second distribution of these images, if the winner has no temperature of its own


def record_predictions(leaderboard: LeaderboardReference, fold: Fold) -> None:
    """Compute the predictions and store their summary with the comparison's run.

    Args:
        leaderboard: The finished leaderboard, with a winner.
        fold: The first fold of the comparison.
    """
    runs = {student.variant: student.run_id for student in leaderboard.students if student.finished}
    control = next(each.control for each in leaderboard.students if each.variant == leaderboard.winner)
    roles: dict[str, Role] = {leaderboard.winner: "student"}
    if control in runs and control != leaderboard.winner:
        roles[control] = "control"
    validation = load(fold.data).validation
    rows = _rows(len(validation), len(fold.data.classes))
    split = validation.take(rows)
    labels = split.labels.numpy()
    logits = {name: _student_logits(str(runs[name]), split) for name in roles}
    networks = [summarise(role, name, softmax(logits[name]), labels) for name, role in roles.items()]
    disagreements: list[Disagreement] = []
    if leaderboard.teacher_run_id:
        teacher = _teacher_logits(leaderboard.teacher_run_id, fold, rows)
        networks.append(summarise("teacher", "teacher", softmax(teacher), labels))
        temperature = temperature_of(fold.experiment, leaderboard.winner)
        disagreements = _disagreements(logits[leaderboard.winner], teacher, temperature, split)
    predictions = Predictions(
        classes=fold.data.classes, examples=len(split), networks=networks, disagreements=disagreements
    )
    tracking.log_json(leaderboard.parent_run_id, PREDICTIONS, predictions.model_dump(mode="json"))


def temperature_of(experiment: Experiment, variant: str) -> float:
    """Return the temperature in the terms of a variant. If it has none, return `TEMPERATURE`."""
    terms = next(each.terms for each in experiment.variants if each.name == variant)
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


def _student_logits(run_id: str, split: Split) -> Tensor:
    return torch.from_numpy(served_logits(run_model(run_id, torch.get_num_threads()), split))


def _teacher_logits(run_id: str, fold: Fold, rows: Tensor) -> Tensor:
    stored = validation_logits(run_id, fold)
    if stored is not None:
        return stored[rows]
    network, _ = recorded_network(run_id, named_modules(fold.experiment))
    return predict(network, load(fold.data).validation.take(rows), find_device(fold.experiment.device))


def _rows(examples: int, classes: int) -> Tensor:
    """Return the indices of the validation images to use: all, or evenly spaced ones if there are very many."""
    count = min(examples, MOST_PROBABILITIES // classes)
    return torch.linspace(0, examples - 1, count).round().long()


def _disagreements(student: Tensor, teacher: Tensor, temperature: float, split: Split) -> list[Disagreement]:
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
