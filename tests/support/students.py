"""Results of students as a leaderboard takes them."""

from typing import Any

import numpy as np

from kdmodels.evaluation.ranking import StudentResult
from kdmodels.run_status import RunStatus


def student(variant: str, accuracies: list[float], **fields: Any) -> StudentResult:
    """Return a finished student with one accuracy per seed, whose control is `hard-labels`."""
    result = StudentResult(
        variant=variant,
        control="hard-labels",
        run_id=f"run-{variant}",
        status=RunStatus.FINISHED,
        reused=False,
        seeds=list(range(len(accuracies))),
        metrics={"val/accuracy": float(np.mean(accuracies))},
        per_seed={"val/accuracy": accuracies},
        parameters=100,
    )
    return result.model_copy(update=fields)


def failed(variant: str) -> StudentResult:
    """Return a student that failed before its parameters were counted."""
    return student(variant, [0.0], run_id="run-x", status=RunStatus.FAILED, metrics={}, per_seed={}, parameters=None)


CONTROL = student("hard-labels", [0.90, 0.91, 0.95])
KD = student("kd", [0.94, 0.93, 0.98])
