"""The predictions of the winner, its control and the teacher for the validation images, for a comparison's report.

A student's predictions are computed with its stored ONNX file, which is the file that is served. If the teacher's
logits are stored, they are read from the store in half precision. Otherwise, they are computed. The test split is not
read.
"""

import torch
from torch import Tensor

from kdmodels.data import Split
from kdmodels.device import find_device
from kdmodels.evaluation.predictions import predict, served_logits
from kdmodels.experiment.user_code import named_modules
from kdmodels.report.predictions import Disagreement, Predictions, Role, summarise
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.disagreements import evenly_spaced, find_disagreements, softmax, temperature_of
from tasks.distil_knowledge import validation_logits
from tasks.prepare_data import load
from tasks.references import LeaderboardReference
from tasks.results import PREDICTIONS
from tasks.served_models import run_model
from tasks.training_runs import recorded_network


def record_predictions(leaderboard: LeaderboardReference, fold: Fold) -> None:
    """Compute the predictions of winner, control and teacher, and store a summary with the comparison's run.

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
    rows = evenly_spaced(len(validation), len(fold.data.classes))
    split = validation.take(rows)
    labels = split.labels.numpy()
    logits = {name: _student_logits(str(runs[name]), split) for name in roles}
    networks = [summarise(role, name, softmax(logits[name]), labels) for name, role in roles.items()]
    disagreements: list[Disagreement] = []
    if leaderboard.teacher_run_id:
        teacher = _teacher_logits(leaderboard.teacher_run_id, fold, rows)
        networks.append(summarise("teacher", "teacher", softmax(teacher), labels))
        terms = next(each.terms for each in fold.experiment.variants if each.name == leaderboard.winner)
        disagreements = find_disagreements(logits[leaderboard.winner], teacher, temperature_of(terms), split)
    predictions = Predictions(
        classes=fold.data.classes, examples=len(split), networks=networks, disagreements=disagreements
    )
    tracking.log_json(leaderboard.parent_run_id, PREDICTIONS, predictions.model_dump(mode="json"))


def _student_logits(run_id: str, split: Split) -> Tensor:
    return torch.from_numpy(served_logits(run_model(run_id, torch.get_num_threads()), split))


def _teacher_logits(run_id: str, fold: Fold, rows: Tensor) -> Tensor:
    stored = validation_logits(run_id, fold)
    if stored is not None:
        return stored[rows]
    network, _ = recorded_network(run_id, named_modules(fold.experiment))
    return predict(network, load(fold.data).validation.take(rows), find_device(fold.experiment.device))
