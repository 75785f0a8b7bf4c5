"""Checkpoints in the tracking store, from which another machine continues an interrupted training.

A process writes only to the run that it records. If a second process takes over on another machine, it records a new
run, and only reads the checkpoint of the first run. Therefore no run mixes the results of two processes, even if the
first process still lives and continues later, e.g. because its machine was suspended and its lease has expired. The
lock needs no fencing token: there is nothing that both processes write.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from kdmodels.errors import UserError
from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import private_folder
from kdmodels.files.temporary import temporary_folder
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.references import PlannedRun
from tasks.tracking.tags import Tag

CHECKPOINTS = "checkpoints"  # folder in the artifacts of a run
COPY = "checkpoint.json"  # a checkpoint consists of this file and of a safetensors file with the same stem
SUFFIXES = (".safetensors", ".json")  # the JSON file comes last, because a checkpoint without it is ignored
SHARE = 0.05  # maximum share of the training time that uploads take


class Uploaded(BaseModel):
    """The newest checkpoint that a run stores.

    Attributes:
        slot: The folder of the checkpoint. Uploads alternate between two folders, so that an interrupted upload does
            not damage the previous checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: PositiveInt
    slot: Literal[0, 1]


class CheckpointUploads:
    """Uploads of the checkpoints of one run. See `Checkpoints`, which calls the object after each written checkpoint.

    Args:
        every: Minimum number of seconds between two uploads. If uploads are slow, the time between them is longer.
        warn: Function that receives a message if a checkpoint can't be uploaded.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self, run_id: str, every: float, warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run_id, self._every, self._warn, self._clock = run_id, every, warn, clock
        earlier = uploaded(tracking.get(run_id))
        self._slot: Literal[0, 1] = 1 if earlier and earlier.slot == 0 else 0
        self._due, self._sent = clock() + every, ""

    def __call__(self, path: Path, is_interrupted: bool) -> None:
        """Upload a checkpoint if an upload is due. If the training is interrupted, upload every new checkpoint.

        Args:
            path: The JSON file of the checkpoint.
        """
        if path.name == self._sent or not (is_interrupted or self._clock() >= self._due):
            return
        began = self._clock()
        try:
            self._upload(path)
        except Exception as error:  # the training continues without this upload, whatever store holds the artifacts
            self._warn(f"the checkpoint {path.stem} can't be stored for other machines: {error}")
        seconds = self._clock() - began
        self._due = self._clock() + max(self._every, seconds / SHARE)

    def _upload(self, path: Path) -> None:
        with temporary_folder() as folder:
            for suffix in SUFFIXES:
                shutil.copyfile(path.with_suffix(suffix), (folder / COPY).with_suffix(suffix))
            tracking.log_folder(self._run_id, folder, f"{CHECKPOINTS}/{self._slot}")
        newest = Uploaded(epoch=int(path.stem.removeprefix("epoch-")), slot=self._slot)
        tracking.set_tags(self._run_id, {Tag.CHECKPOINT: newest.model_dump_json()})
        self._slot, self._sent = 0 if self._slot else 1, path.name


def uploaded(run: tracking.Run) -> Uploaded | None:
    """Return the newest checkpoint that a run stores. If the run stores none, or its tag is damaged, return `None`."""
    try:
        return Uploaded.model_validate_json(run.tags.get(Tag.CHECKPOINT, ""))
    except ValidationError:
        return None


def take_over(step: PlannedRun, folder: Path) -> str | None:
    """Download the newest checkpoint of a step that another machine has stored. The caller must hold the step's lock.

    The checkpoint is checked when the training reads it, see `Checkpoints.latest`.

    Args:
        folder: The folder of the step's checkpoints on this machine.

    Returns:
        The id of the run that stores the checkpoint. `None` if there is no such run.
    """
    if not tracking.is_shared():
        return None
    stopped = (RunStatus.RUNNING, RunStatus.KILLED)  # a run without a lock has lost its process, even if it is RUNNING
    runs = [run for run in tracking.checkpointed(step.kind, step.key) if run.status in stopped]
    newest = {run.run_id: checkpoint for run in runs if (checkpoint := uploaded(run))}
    for run_id in sorted(newest, key=lambda run_id: -newest[run_id].epoch):
        target = private_folder(folder) / f"epoch-{newest[run_id].epoch:06}"
        with (
            suppress(UserError, OSError),  # the checkpoint was deleted meanwhile, so try an older one
            tracking.fetched(run_id, f"{CHECKPOINTS}/{newest[run_id].slot}") as source,
        ):
            for suffix in SUFFIXES:
                write_whole(target.with_suffix(suffix), partial(shutil.copyfile, (source / COPY).with_suffix(suffix)))
            return run_id
    return None


def delete_uploads(step: PlannedRun) -> None:
    """Delete the checkpoints of a step from the store. If that fails, the checkpoints are deleted with their runs."""
    if tracking.is_shared():
        with suppress(Exception):  # the step has ended, so a failure must not change its result
            for run in tracking.checkpointed(step.kind, step.key):
                tracking.delete_tag(run.run_id, Tag.CHECKPOINT)
                tracking.delete_folder(run.run_id, CHECKPOINTS)
