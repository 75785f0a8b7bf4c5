"""Functions that find checkpoints of interrupted runs, and the runs that can be resumed from the checkpoints.

This module imports neither torch nor prefect.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kdmodels.files.folders import folder_bytes
from kdmodels.run_status import RunStatus
from kdmodels.versions import is_outdated
from tasks import tracking
from tasks.references import CODE, PlannedRun

CLAIM = "claim"  # name of the file with the claim, a random id that connects a folder of checkpoints with its runs


def folder_of(step: PlannedRun) -> Path:
    """Return the path of a planned run's folder of checkpoints. The folder need not exist."""
    return tracking.machine_folder("checkpoints") / step.key


def interrupted(step: PlannedRun, experiment: str) -> tracking.Run | None:
    """Return the interrupted run that a planned run can resume. If no run can be resumed, return None.

    A run is interrupted if it was stopped, or if its process no longer exists.

    Args:
        step: The planned run.
        experiment: Name of the experiment that must contain the interrupted run.
    """
    claim = claim_in(folder_of(step))
    run = tracking.claimed(claim, experiment) if claim else None
    if run is None:
        return None
    stopped = run.status == RunStatus.KILLED or (run.status == RunStatus.RUNNING and tracking.is_dead(run.tags))
    return run if stopped and run.key == step.key else None


def last_epoch(step: PlannedRun) -> int:
    """Return the epoch of the newest checkpoint of a planned run. If there are no checkpoints, return 0."""
    files = folder_of(step).glob("epoch-*.json")
    return max((int(file.stem.removeprefix("epoch-")) for file in files), default=0)


@dataclass(frozen=True)
class Kept:
    """A folder of checkpoints on this machine.

    Attributes:
        folder: Path of the folder.
        megabytes: Size of the folder in MB.
        why: Reason why no run can be resumed from the checkpoints. If a run can be resumed, the text is empty.
    """

    folder: Path
    megabytes: float
    why: str = ""

    @property
    def orphaned(self) -> bool:
        """Whether no run can be resumed from the checkpoints."""
        return bool(self.why)


def kept() -> list[Kept]:
    """Return all folders of checkpoints that this machine has for the current tracking store."""
    return [kept_in(folder) for folder in sorted(tracking.machine_folder("checkpoints").iterdir())]


def kept_in(folder: Path) -> Kept:
    """Check a folder of checkpoints, and return its size and whether a run can be resumed from the checkpoints."""
    megabytes = folder_bytes(folder) / 1e6
    claim = claim_in(folder)
    run = tracking.claimed(claim) if claim else None
    if run is None:
        return Kept(folder, megabytes, "their run is not in the store")
    if run.status == RunStatus.FINISHED:
        return Kept(folder, megabytes, "their run is finished")
    torch = version("torch")
    if is_outdated(run.params, CODE) or run.params.get("torch", torch) != torch:  # a new run may have no params yet
        return Kept(folder, megabytes, "kdflow's results or torch have changed since")
    return Kept(folder, megabytes)


def claim_in(folder: Path) -> str | None:
    """Return the claim that is stored in a folder of checkpoints. If there is no valid claim, return None.

    A claim is a random id that connects a folder of checkpoints with its runs.
    """
    try:
        claim = (folder / CLAIM).read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return claim if claim.isalnum() else None
