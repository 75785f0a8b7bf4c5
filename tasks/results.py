"""The names of the artifacts that commands read, and functions that read and write these artifacts.

This module imports neither torch nor prefect, so that `kd list`, `kd show` and `kd compare` start quickly.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from kdmodels.errors import UserError
from kdmodels.evaluation.correctness import Correctness
from kdmodels.experiment.presets import CONTROL
from tasks import tracking
from tasks.references import GeneratorPlan, Plan, StudentReference, VerdictReference
from tasks.tracking.tags import Tag

# Artifacts of a comparison or a generation
ROWS = "leaderboard.json"
PLAN = "plan.json"
VERDICT = "verdict.json"
REPORT = "report.html"
PREDICTIONS = "predictions.json"  # summary of the predictions of winner, control and teacher for the validation images
CORRECTNESS = "right.safetensors"  # the validation examples that each replica of each student classifies correctly

DATA = "data"  # folder of a comparison: the prepared datasets, for workers on other machines
FIGURES = "figures"  # folder of a comparison or student: images

# Artifacts of a teacher or student
NETWORK = "network"  # folder: weights and description
PROMOTIONS = "promotions.json"  # the evidence of the latest promotion of a student, by the name of the model
DISAGREEMENTS = "disagreements.svg"  # in FIGURES: the validation images on which student and teacher disagree most
CLASSES = "classes.csv"  # the stored network's metrics for each class on the validation split
KNOWLEDGE = "knowledge"  # folder of a teacher: its outputs for each image
REPLICAS = "replicas"  # folder of a student: the history and weights of every replica
TABLE = f"{REPLICAS}/replicas.json"
SCORES = "metrics.json"  # of a student: the values of the experiment's metrics for each replica
STUDENT_CORRECTNESS = f"{REPLICAS}/{CORRECTNESS}"

OWN = "right"  # name of the only tensor in the correctness file of a single student
SPLIT = "validation"  # metadata key of a correctness file: the digest of the validation split
ALL = 100_000  # a limit above the number of comparisons in any store
ACCURACY, SIZE = "val/accuracy", "size/parameters"
SECONDS = "seconds/"  # prefix of the metric for the duration of a stage, e.g. seconds/training
MEMORY, GPU_MEMORY = "memory_mb/", "gpu_memory_mb/"  # prefixes of metrics for the peak memory in a stage
TEACHER_ACCURACY = "val/teacher_accuracy"  # metric of a comparison. With cross-validation, the mean over the folds
METRIC = "metric/"  # prefix of the metrics that the experiment names: the means over the seeds, on validation
RATIO = "gradient_ratio/"  # prefix of the metric of a loss: its gradient norm divided by that of cross entropy
TRIALS = "tuning.csv"  # table of a search: the hyperparameters of each trial, and its accuracy on the inner split
TRIALS_PLOT = "tuning.png"  # plot of the trials
INNER_ACCURACY = "inner_accuracy"  # column of the table of trials


def read_plan(run: tracking.Run) -> Plan | GeneratorPlan | None:
    """Return the plan of a comparison or a generation. If the run has not recorded its plan yet, return `None`."""
    if not tracking.has_artifact(run.run_id, PLAN):
        return None
    plan = tracking.read_json(run.run_id, PLAN)
    return GeneratorPlan.model_validate(plan) if run.kind == "generation" else Plan.model_validate(plan)


def latest_comparison() -> tracking.Run:
    """Return the newest comparison that has a leaderboard. A failed comparison can have a leaderboard too.

    Raises:
        UserError: no comparison has a leaderboard.
    """
    for limit in (1, 100):  # the newest run usually has a leaderboard, and reading a run takes 5 ms
        for run in tracking.runs(kind="comparison", limit=limit):
            if tracking.has_artifact(run.run_id, ROWS):
                return run
    raise UserError("nothing has been compared yet; begin with: kd run digits")


def replicas(run_id: str) -> list[dict[str, Any]]:
    """Return the metrics and histories of a student's replicas. A replica is the network trained with one seed.

    The list is empty if no replicas are recorded yet.
    """
    table: list[dict[str, Any]] = tracking.read_json(run_id, TABLE) if tracking.has_artifact(run_id, TABLE) else []
    return table


def correctness(run: tracking.Run) -> dict[str, Correctness]:
    """Return which validation examples each student of a run classifies correctly, by the id of the student's run.

    If the run is a comparison, all its students are included. If the run recorded no correctness, the mapping is empty.
    """
    path = CORRECTNESS if run.kind == "comparison" else STUDENT_CORRECTNESS
    if not tracking.has_artifact(run.run_id, path):
        return {}
    stored = read_correctness(tracking.artifact(run.run_id, path))
    return stored if run.kind == "comparison" else {run.run_id: stored[OWN]}


def write_correctness(file: Path, students: dict[str, Correctness]) -> None:
    """Write to a file which validation examples each student classifies correctly.

    All students must have the same validation split.

    Args:
        students: The correctness by run id. In the file of a single student, the key is `OWN` instead of the run id.
    """
    (split,) = {student.split for student in students.values()}
    save_file({run_id: student.outcomes for run_id, student in students.items()}, file, metadata={SPLIT: split})


def read_correctness(file: Path) -> dict[str, Correctness]:
    """Read the correctness from a file that `write_correctness` has written."""
    with safe_open(file, framework="numpy") as tensors:
        split = tensors.metadata()[SPLIT]
        return {run_id: Correctness(split, tensors.get_tensor(run_id)) for run_id in tensors.keys()}  # noqa: SIM118


def winner_metrics(verdict: VerdictReference) -> dict[str, float]:
    """Return the metrics of the experiment on the test split, by name, for the student that a verdict is about.

    If the experiment names no metrics, or an older version of kdflow recorded the verdict, the result is empty.
    """
    metrics: dict[str, float] = verdict.evidence.get("challenger", {}).get("metrics", {})
    return metrics


def untested(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics without test metrics. A reused run may have test metrics from an earlier promotion."""
    return {name: value for name, value in metrics.items() if not name.startswith("test/")}


def reference(run_id: str, *, reused: bool) -> StudentReference:
    """Return the leaderboard row of a student or teacher. The run may be unfinished.

    The row contains no metrics on the test split.
    """
    run = tracking.get(run_id)
    accuracies = [replica["figures"][ACCURACY] for replica in replicas(run_id)]
    if run.kind == "teacher" and ACCURACY in run.metrics:  # a teacher is one network and has no table of replicas
        accuracies = [run.metrics[ACCURACY]]
    return StudentReference(
        variant=run.tags[Tag.VARIANT],
        control=run.tags.get(Tag.CONTROL, CONTROL),
        run_id=run_id,
        status=run.status,
        reused=reused,
        seeds=json.loads(run.tags[Tag.SEEDS]),
        metrics=untested(run.metrics),
        per_seed={ACCURACY: accuracies},
        parameters=int(run.metrics[SIZE]) if SIZE in run.metrics else None,
        error=run.tags.get(Tag.ERROR),
        trials=int(run.params["tune.trials"]) if "tune.trials" in run.params else None,
    )
