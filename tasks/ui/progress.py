"""Progress artifacts in Prefect's UI, one for each student that is trained. Each shows the share of finished epochs."""

import contextvars
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect.artifacts import ProgressArtifact, update_progress_artifact
from prefect.client.schemas.objects import Artifact as CreatedArtifact
from prefect.logging import get_run_logger

from kdmodels.errors import redacted
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.references import PlannedRun
from tasks.tracking.tags import Tag
from tasks.ui.links import artifact_keys, flow_run_url
from tasks.ui.summaries import accuracy

UPDATE_SECONDS = 5.0  # interval of the updates
JOIN_SECONDS = 10.0  # timeout for the last update, which delays the end of the training


@contextmanager
def progress_artifacts(fold: Fold) -> Iterator[None]:
    """Show in Prefect's UI, while the block runs, the progress of each student that is trained.

    A thread reads the epochs from MLflow, because the process that trains a student cannot always reach the server.
    If the server has no UI, do nothing.
    """
    steps = [step for step in fold.plan.students if step.action != "reuse"]
    if not steps or flow_run_url() is None:
        yield
        return
    bars, ended = _Bars(fold, steps), threading.Event()
    context = contextvars.copy_context()  # the context of the flow run, so that the artifacts belong to the flow run
    thread = threading.Thread(target=context.run, args=(bars.watch, ended), name="progress artifacts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(JOIN_SECONDS)


class _Bars:
    """The progress artifacts of the students of one fold."""

    def __init__(self, fold: Fold, steps: list[PlannedRun]) -> None:
        self._parent = fold.parent
        self._steps = steps
        self._keys = artifact_keys(fold.experiment.name, [step.name for step in fold.plan.students])
        self._ids: dict[str, UUID] = {}
        self._shown: dict[str, tuple[float, str]] = {}  # percent and description

    def watch(self, ended: threading.Event) -> None:
        """Update the artifacts every few seconds, and once more when the training has ended."""
        try:
            while not ended.wait(UPDATE_SECONDS):
                self._update()
            self._update()
        except Exception as error:  # the training continues without the artifacts
            get_run_logger().warning(f"no more progress is shown: {redacted(str(error))}")

    def _update(self) -> None:
        """Create or update the artifact of each student that has advanced since the last update."""
        runs = {run.name: run for run in tracking.children(self._parent) if run.kind == "student"}
        for step in self._steps:
            if run := runs.get(step.name):
                shown = _percent(step, run), f"{step.name}: {_state(run)}"
                if shown != self._shown.get(step.name):
                    self._show(step, run, *shown)
                    self._shown[step.name] = shown

    def _show(self, step: PlannedRun, run: tracking.Run, percent: float, description: str) -> None:
        if step.name in self._ids:
            update_progress_artifact(self._ids[step.name], percent, description)
            return
        task_run = run.tags.get(Tag.PREFECT_TASK_RUN)
        artifact = ProgressArtifact(
            key=self._keys[step.name],
            description=description,
            progress=percent,
            task_run_id=UUID(task_run) if task_run else None,
        )
        self._ids[step.name] = cast(CreatedArtifact, artifact.create()).id


def _percent(step: PlannedRun, run: tracking.Run) -> float:
    if run.status == RunStatus.FINISHED:
        return 100.0
    epochs = step.params.get("epochs")
    return round(100 * run.metrics.get("epoch", 0) / epochs, 1) if isinstance(epochs, int) and epochs else 0.0


def _state(run: tracking.Run) -> str:
    known: Mapping[str, float] = run.metrics
    reached = accuracy(dict(known)) if "val/accuracy" in known else ""
    return ", ".join(filter(None, (run.status.lower(), reached)))
