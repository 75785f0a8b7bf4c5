"""One step of a plan at a time: alone on this machine, and going on where an interruption left it."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from kdmodels.durable import write_whole
from kdmodels.errors import DivergedError, UserError
from kdmodels.folders import private_folder
from kdmodels.training import Checkpoints
from tasks import interruption, tracking
from tasks.leftovers import CLAIM, claim_in, folder_of, interrupted
from tasks.references import Step

POLL_SECONDS = 0.2
PLANNING = "planning"  # the lock between what a plan finds and the run that says what it takes over
CHECKPOINT_SECONDS = 10.0  # between two of a training, unless KD_CHECKPOINT_SECONDS says otherwise


@dataclass(frozen=True)
class Begun:
    """What there is already of a step that is about to be done.

    Attributes:
        finished: the run of another process that has done it meanwhile. interrupted: the run that goes on.
    """

    step: Step
    folder: Path
    finished: str | None = None
    interrupted: str | None = None

    def claim(self) -> dict[str, str]:
        """The tags by which the next to do the step finds the run, should it be interrupted.

        What names the run lies beside its checkpoints before there is the run: whenever that ends, it is not begun
        twice. Where it can't be written there is a warning, as for a checkpoint.
        """
        if claim := claim_in(self.folder):
            return {tracking.CLAIM: claim}
        claim = uuid4().hex
        try:
            private_folder(self.folder)
            write_whole(self.folder / CLAIM, lambda path: path.write_text(claim))
        except OSError as error:
            told = f"{self.folder}: a checkpoint can't be written: {error}"
            return {tracking.WARNING: told}
        return {tracking.CLAIM: claim}

    def checkpoints(self, run_id: str, seeds: Sequence[int]) -> Checkpoints:
        """Those of a training of these seeds, perhaps not all of the step's, that this run records.

        Where none can be written, the disk being full for example, there is a warning and the training goes on: to lose
        it for want of what is there in case it is lost would help nobody.
        """

        def warn(told: str) -> None:
            tracking.set_tags(run_id, {tracking.WARNING: told})

        return Checkpoints(self.folder, f"{self.step.key} {list(seeds)}", every=checkpoint_seconds(), warn=warn)


@contextmanager
def begun(step: Step, experiment: str) -> Iterator[Begun]:
    """Wait until no other process of this machine does the same for the same store, then see what there is.

    When the block ends and the step is done, or diverged, nothing is left to go on with.
    """
    with alone(step.key):
        folder = folder_of(step)
        if step.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        found = None if step.fresh else tracking.finished(step.kind, [step.key]).get(step.key)
        run = None if found else interrupted(step, experiment)
        try:
            yield Begun(step, folder, found.run_id if found else None, run.run_id if run else None)
        except DivergedError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold a lock that every process of this machine with this store knows by that name; others wait."""
    lock = lock_of(name)
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            interruption.check()
            time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # who waits sees that its file is gone, and takes a new one
        lock.release()


def lock_of(name: str) -> FileLock:
    """That lock, not held yet."""
    file = tracking.machine_folder("locks") / f"{sha256(name.encode()).hexdigest()[:32]}.lock"
    return FileLock(file, thread_local=False, fallback_to_soft=False, mode=0o600)


def checkpoint_seconds() -> float:
    """How much training an interruption may cost, in seconds, or an epoch where that is longer.

    Raises:
        UserError: KD_CHECKPOINT_SECONDS is no such number.
    """
    word = os.environ.get("KD_CHECKPOINT_SECONDS") or CHECKPOINT_SECONDS
    try:
        seconds = float(word)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"KD_CHECKPOINT_SECONDS: {word!r} is no number of seconds; allowed: 0 or more")
    return seconds
