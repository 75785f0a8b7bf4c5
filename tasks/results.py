"""What runs leave behind and commands read: the names of their files, and their rows of a leaderboard.

It imports neither torch nor prefect, so that `kd list`, `kd show` and `kd compare` need not wait for them.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from kdmodels.errors import UserError
from kdmodels.objectives import CONTROL
from kdmodels.report.evidence import Right
from tasks import tracking
from tasks.references import StudentReference

NETWORK = "network"  # a teacher's or student's folder of weights and description
ROWS = "leaderboard.json"  # a comparison's
PLAN = "plan.json"  # a comparison's
VERDICT = "verdict.json"  # a comparison's
REPLICAS = "replicas"  # a student's folder of every seed's history and weights
RIGHT = "right.safetensors"  # a comparison's: which validation examples each student's seeds get right
OF_SEEDS = f"{REPLICAS}/{RIGHT}"  # a student's own
OWN = "right"  # the one tensor in that
SPLIT = "validation"  # the files' metadata: the digest of that split
CLASSES = "classes.csv"  # a teacher's or student's: the stored network's figures by class, on validation
TABLE = f"{REPLICAS}/replicas.json"
KNOWLEDGE = "knowledge"  # a teacher's folder of what it says of each image
COMPLETE = "kd.knowledge"  # the tag that says how many views of what are wholly stored, set after the files
MEMBERS = "kd.members"  # the tag of an ensemble's run: the run ids of its members, which hold the networks
ALL = 100_000  # more comparisons than anybody has
TEACHER = "kd.teacher_run"  # the tag of a comparison: its teacher's run
ACCURACY, SIZE = "val/accuracy", "size/parameters"


def latest_comparison() -> tracking.Run:
    """The newest comparison that has a leaderboard, however it ended.

    Raises:
        UserError: there is none.
    """
    for limit in (1, 100):  # usually it is the newest, and each costs 5 ms to read
        for run in tracking.runs(kind="comparison", limit=limit):
            if tracking.has_artifact(run.run_id, ROWS):
                return run
    raise UserError("nothing has been compared yet; begin with: kd run digits")


def replicas(run_id: str) -> list[dict[str, Any]]:
    """A student's seeds, each with its figures and its history; none for a run that has not got so far."""
    table: list[dict[str, Any]] = tracking.read_json(run_id, TABLE) if tracking.has_artifact(run_id, TABLE) else []
    return table


def right(run: tracking.Run) -> dict[str, Right]:
    """By run id, which validation examples a comparison's students, or a student, get right; of old runs nothing."""
    path = RIGHT if run.kind == "comparison" else OF_SEEDS
    if not tracking.has_artifact(run.run_id, path):
        return {}
    found = read_right(tracking.artifact(run.run_id, path))
    return found if run.kind == "comparison" else {run.run_id: found[OWN]}


def write_right(file: Path, found: dict[str, Right]) -> None:
    """Write a file of `RIGHT` or `OF_SEEDS`; all are of one validation split."""
    (split,) = {one.split for one in found.values()}
    save_file({run_id: one.outcomes for run_id, one in found.items()}, file, metadata={SPLIT: split})


def read_right(file: Path) -> dict[str, Right]:
    """What a file of `RIGHT` or `OF_SEEDS` says."""
    with safe_open(file, framework="numpy") as tensors:
        split = tensors.metadata()[SPLIT]
        return {run_id: Right(split, tensors.get_tensor(run_id)) for run_id in tensors.keys()}  # noqa: SIM118


def untested(metrics: dict[str, float]) -> dict[str, float]:
    """All but the figures on test, which an earlier promotion may have left with a run that is reused."""
    return {name: value for name, value in metrics.items() if not name.startswith("test/")}


def reference(run_id: str, *, reused: bool) -> StudentReference:
    """A student's or a teacher's row of a leaderboard, whether it has finished or not; nothing in it is of test."""
    run = tracking.get(run_id)
    accuracies = [replica["figures"][ACCURACY] for replica in replicas(run_id)]
    if run.kind == "teacher" and ACCURACY in run.metrics:  # it is one network, and keeps no table
        accuracies = [run.metrics[ACCURACY]]
    return StudentReference(
        variant=run.tags["kd.variant"],
        control=run.tags.get("kd.control", CONTROL),
        run_id=run_id,
        status=run.status,
        reused=reused,
        seeds=json.loads(run.tags["kd.seeds"]),
        metrics=untested(run.metrics),
        per_seed={ACCURACY: accuracies},
        parameters=int(run.metrics[SIZE]) if SIZE in run.metrics else None,
        error=run.tags.get("kd.error"),
    )
