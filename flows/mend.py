"""What dead processes left behind, and its end: `kd doctor --fix`."""

import shutil
from pathlib import Path

from filelock import Timeout

from kdmodels.temporary import orphans
from tasks import leftovers, tracking
from tasks.steps import lock_of


def mend(*, dry_run: bool = False) -> list[str]:
    """End the runs whose process is gone; delete its folders, and the checkpoints with which no run can go on.

    Args:
        dry_run: only say so.

    Returns:
        A line for each.
    """
    found = orphans(delete=not dry_run)  # first: where a disk is full the store can't be written before
    tracking.configure()
    gone = tracking.abandoned() if dry_run else tracking.end_abandoned()
    ended, deleted = ("would end", "would delete") if dry_run else ("ended", "deleted")
    told = [f"{ended} {run.name} ({run.run_id}), whose process is gone" for run in gone]
    for kept in leftovers.kept():
        if kept.orphaned and (dry_run or _deleted(kept.folder)):
            told.append(f"{deleted} {kept.folder}, {kept.megabytes:.1f} MB of checkpoints: {kept.why}")
    for orphan in found:
        told.append(f"{deleted} {orphan.folder}, {orphan.megabytes:.1f} MB of {orphan.what}: its process is gone")
    return told


def _deleted(folder: Path) -> bool:
    """Delete it, unless somebody trains there now, or has made it useful meanwhile."""
    try:
        with lock_of(folder.name).acquire(blocking=False):
            if leftovers.kept_in(folder).orphaned:
                shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return False
    return not folder.exists()
