"""What an interruption left: checkpoints, and runs that can go on with them. Neither torch nor prefect is imported."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kdmodels.versions import is_outdated
from tasks import tracking
from tasks.references import CODE, Step

CLAIM = "claim"  # the file with the claim of the runs to which the checkpoints belong


def folder_of(step: Step) -> Path:
    """Where the checkpoints of a step are, if there are any."""
    return tracking.machine_folder("checkpoints") / step.key


def interrupted(step: Step, experiment: str) -> tracking.Run | None:
    """The experiment's run of a step that was stopped, or whose process is gone, and which can go on."""
    claim = claim_in(folder_of(step))
    run = tracking.claimed(claim, experiment) if claim else None
    if run is None:
        return None
    stopped = run.status == "KILLED" or (run.status == "RUNNING" and tracking.is_gone(run.tags))
    return run if stopped and run.key == step.key else None


def last_epoch(step: Step) -> int:
    """That of the newest checkpoint; 0 where there is none."""
    files = folder_of(step).glob("epoch-*.json")
    return max((int(file.stem.removeprefix("epoch-")) for file in files), default=0)


@dataclass(frozen=True)
class Kept:
    """A folder of checkpoints; `why` says what has become of their run where nothing can go on with them."""

    folder: Path
    megabytes: float
    why: str = ""

    @property
    def orphaned(self) -> bool:
        """Whether nothing can go on with them."""
        return bool(self.why)


def kept() -> list[Kept]:
    """All checkpoints of this machine and store."""
    return [kept_in(folder) for folder in sorted(tracking.machine_folder("checkpoints").iterdir())]


def kept_in(folder: Path) -> Kept:
    """What is in one of their folders."""
    size = sum(map(_size, folder.glob("*"))) / 1e6
    claim = claim_in(folder)
    run = tracking.claimed(claim) if claim else None
    if run is None:
        return Kept(folder, size, "their run is not in the store")
    if run.status == "FINISHED":
        return Kept(folder, size, "their run is finished")
    torch = version("torch")
    if is_outdated(run.params, CODE) or run.params.get("torch", torch) != torch:  # of one just begun there may be none
        return Kept(folder, size, "kdflow's results or torch have changed since")
    return Kept(folder, size)


def claim_in(folder: Path) -> str | None:
    """The claim that its runs bear; None where there is none that can be one."""
    try:
        claim = (folder / CLAIM).read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return claim if claim.isalnum() else None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # renamed since it was listed
        return 0
