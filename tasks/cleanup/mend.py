"""Functions that clean up after dead processes for `kd doctor --fix`."""

import shutil
from pathlib import Path

from filelock import Timeout

from kdmodels.files.temporary import orphans
from tasks import tracking
from tasks.cleanup import leftovers
from tasks.execution.locks import lock_of


def mend(*, dry_run: bool = False) -> list[str]:
    """End the runs of dead processes, and delete the files that are no longer needed.

    These files are the temporary folders of dead processes, and the checkpoints from which no run can be resumed.

    Args:
        dry_run: Whether to only report the runs that would be ended and the folders that would be deleted.

    Returns:
        One line for each ended run and each deleted folder.
    """
    folders = orphans(delete=not dry_run)  # first, because the store can't be written if the disk is full
    tracking.configure()
    runs = tracking.abandoned() if dry_run else tracking.end_abandoned()
    ended, deleted = ("would end", "would delete") if dry_run else ("ended", "deleted")
    lines = [f"{ended} {run.name} ({run.run_id}): its process has ended" for run in runs]
    for kept in leftovers.kept():
        if kept.orphaned and (dry_run or _delete(kept.folder)):
            lines.append(f"{deleted} {kept.folder}, {kept.megabytes:.1f} MB of checkpoints: {kept.why}")
    for orphan in folders:
        size = f"{orphan.megabytes:.1f} MB of {orphan.content}"
        lines.append(f"{deleted} {orphan.folder}, {size}: its process has ended")
    return lines


def _delete(folder: Path) -> bool:
    """Delete a folder of checkpoints, unless a process is using the folder or a run can be resumed from it.

    Returns:
        Whether the folder no longer exists.
    """
    try:
        with lock_of(folder.name).acquire(blocking=False):
            if leftovers.kept_in(folder).orphaned:
                shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return False
    return not folder.exists()
