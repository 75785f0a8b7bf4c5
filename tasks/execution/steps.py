"""Execution of the steps of a plan. A step trains one teacher or all seeds of one student.

Of all processes that share the store, on any machine, only one runs a step at a time. An interrupted step is resumed.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from kdmodels.errors import DivergedError, UserError
from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import private_folder
from kdmodels.training import Checkpoints
from tasks import tracking
from tasks.cleanup.leftovers import CLAIM, claim_in, folder_of, interrupted
from tasks.execution.checkpoint_uploads import CheckpointUploads, delete_uploads, take_over
from tasks.execution.team_locks import team_exclusive
from tasks.references import PlannedRun
from tasks.tracking.tags import Tag

CHECKPOINT_SECONDS = 10.0  # time between two checkpoints, unless KD_CHECKPOINT_SECONDS is set
UPLOAD_EVERY = 6  # upload at most every 6 * 10 s, because a takeover waits 60 s for the lease anyway


@dataclass(frozen=True)
class StepWork:
    """A step that this process is about to run, and earlier work on the step that this process can use.

    Attributes:
        folder: The folder of the step's checkpoints.
        finished: The id of a run that has finished the step since the planning, e.g. in another process. If there is
            no such run, the value is `None`.
        interrupted: The id of the interrupted run that is resumed. If there is no such run, the value is `None`.
        taken_over: The id of an interrupted run of another machine. Its checkpoint is continued in a new run. If there
            is no such run, the value is `None`.
    """

    step: PlannedRun
    folder: Path
    finished: str | None = None
    interrupted: str | None = None
    taken_over: str | None = None

    def claim(self) -> dict[str, str]:
        """Return a tag that connects the step's run with its checkpoints, so that an interrupted run can be found.

        The tag holds a random id, called the claim. The claim is written to the checkpoint folder before the MLflow
        run is created. An interrupted step is therefore always resumed in the same run. If the claim cannot be written,
        a warning tag is returned instead.
        """
        if claim := claim_in(self.folder):
            return {Tag.CLAIM: claim}
        claim = uuid4().hex
        try:
            private_folder(self.folder)
            write_whole(self.folder / CLAIM, lambda path: path.write_text(claim))
        except OSError as error:
            return {Tag.WARNING: f"{self.folder}: a checkpoint can't be written: {error}"}
        return {Tag.CLAIM: claim}

    def checkpoints(self, run_id: str, seeds: Sequence[int]) -> Checkpoints:
        """Return the checkpoints of a training with these seeds. The training may cover only some of the step's seeds.

        If a checkpoint cannot be written, e.g. because the disk is full, the run gets a warning tag. The training
        continues, because a checkpoint is needed only after an interruption.
        """

        def warn(message: str) -> None:
            tracking.set_tags(run_id, {Tag.WARNING: message})

        spec, every = f"{self.step.key} {list(seeds)}", checkpoint_seconds()
        if not tracking.is_shared():
            return Checkpoints(self.folder, spec, every=every, warn=warn)
        uploads = CheckpointUploads(run_id, UPLOAD_EVERY * every, warn)
        return Checkpoints(self.folder, spec, every=every, warn=warn, on_written=uploads)


@contextmanager
def begin_step(step: PlannedRun, experiment: str, parent: str | None = None) -> Iterator[StepWork]:
    """Wait until no other process runs the step, then provide the step as `StepWork`.

    A cluster may run a task again that has already finished, e.g. because the worker that held its result died.
    Therefore, a finished run of the same comparison is reused even if the step must be trained again.

    If no run of this machine can be resumed, but a process on another machine has stored a checkpoint and no longer
    holds the lock, its checkpoint is continued.

    The step's checkpoints are deleted if the block ends without an error or with a DivergedError.

    Args:
        parent: The id of the comparison's run. `None` if no cluster runs the step.
    """
    with team_exclusive(step.key):
        folder = folder_of(step)
        if step.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        done = tracking.finished(step.kind, [step.key]).get(step.key)
        if step.fresh and done and (parent is None or done.parent != parent):
            done = None
        run = None if done else interrupted(step, experiment)
        taken_over = None if done or run or step.fresh else take_over(step, folder)
        try:
            yield StepWork(step, folder, done.run_id if done else None, run.run_id if run else None, taken_over)
        except DivergedError:
            _delete_checkpoints(step, folder)
            raise
        _delete_checkpoints(step, folder)


def _delete_checkpoints(step: PlannedRun, folder: Path) -> None:
    """Delete the checkpoints of a step, on this machine and in the store."""
    shutil.rmtree(folder, ignore_errors=True)
    delete_uploads(step)


def checkpoint_seconds() -> float:
    """Return the minimum number of seconds between two checkpoints.

    An interrupted training loses at most this much work, or one epoch if an epoch takes longer.

    Raises:
        UserError: KD_CHECKPOINT_SECONDS is not a number of seconds.
    """
    word = os.environ.get("KD_CHECKPOINT_SECONDS") or CHECKPOINT_SECONDS
    try:
        seconds = float(word)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"KD_CHECKPOINT_SECONDS: expected a number of seconds, got {word!r}. Allowed: 0 or more.")
    return seconds
