"""Functions that delete old runs and caches for `kd gc`. Runs and caches that are still needed are kept."""

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from kdmodels.errors import UnavailableError
from kdmodels.files.folders import DECODED_LOCK
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.cleanup import caches
from tasks.cleanup.caches import Cache
from tasks.cleanup.needs import in_use, needed
from tasks.cleanup.runs import locked_runs, order
from tasks.execution.locks import copy_lock, lock_of
from tasks.results import DATA, KNOWLEDGE
from tasks.tracking.tags import Tag

# Caches in the artifacts of runs: the tag that says what is stored, and the folder, by the kind of the cache
IN_RUNS = {"knowledge": (Tag.KNOWLEDGE, KNOWLEDGE), "stored data": (Tag.STORED_DATA, DATA)}


class Deleted(BaseModel):
    """A run or cache that was deleted, or that a dry run would delete.

    Attributes:
        bytes: Size in bytes.
        last_used: Time of the last use in UTC, in ISO 8601 format.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str | None
    name: str
    run_id: str | None
    folder: str | None
    bytes: int
    last_used: str


class Collected(BaseModel):
    """The result of `collect`.

    Attributes:
        deleted: Deleted runs and caches.
        bytes: Total size in bytes of the deleted runs and caches.
        needed: Number of old runs that are kept because they are still needed.
        for_good: Whether the store deletes runs permanently. If not, the runs are only marked as deleted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    deleted: list[Deleted]
    bytes: int
    needed: int
    for_good: bool


def collect(
    older_than: float, report: Callable[[Deleted], None], *, dry_run: bool = False, now: float | None = None
) -> Collected:
    """Delete old runs and caches that are no longer needed.

    A run is old if it ended at least `older_than` seconds ago. A cache is old if its last use was at least `older_than`
    seconds ago.

    Runs are deleted one at a time, students first and comparisons last. Each run is marked as deleted before its files
    are deleted. If the deletion is interrupted, the next call completes the deletion.

    Args:
        older_than: Minimum age in seconds.
        report: Function that is called with each run or cache after its deletion.
        dry_run: Whether to only report the runs and caches that would be deleted.
        now: Current time in seconds since 1970. Default: the system time.

    Raises:
        UnavailableError: A file can't be deleted.
    """
    tracking.configure()
    if not dry_run:
        # Otherwise the runs that an abandoned comparison planned to reuse would never be deleted.
        tracking.end_abandoned()
    since = ((time.time() if now is None else now) - older_than) * 1000
    deleted: list[Deleted] = []

    def add(item: Deleted) -> None:
        report(item)
        deleted.append(item)

    with locked_runs() as runs:
        kept = needed(runs, tracking.registered_runs(), since)
        staying = [run for run in runs if run.run_id in kept]
        for run in sorted((run for run in runs if run.run_id not in kept), key=order):
            item = _deleted_run(run)
            if not dry_run:
                tracking.delete_run(run.run_id)
            add(item)
        for cache in _unused(staying, since):
            if dry_run or _delete(cache, since):
                add(_deleted_cache(cache))
    return Collected(
        deleted=deleted,
        bytes=sum(item.bytes for item in deleted),
        needed=sum(run.end is not None and run.end < since for run in staying),
        for_good=tracking.deletes_for_good(),
    )


def _unused(runs: Sequence[tracking.Run], since: float) -> list[Cache]:
    busy = in_use(runs)
    candidates = [
        *(*caches.decoded(), *caches.checkpoints(), *caches.copies(), *caches.downloaded_data()),
        *(*caches.knowledge(runs), *caches.stored_data(runs)),
    ]
    unended = {run.key for run in runs if run.status in (RunStatus.RUNNING, RunStatus.KILLED)}
    return [
        cache
        for cache in candidates
        if cache.used < since
        and cache.run_id not in busy
        and not (cache.kind == "checkpoints" and cache.name in unended)  # the run may be resumed from its checkpoints
    ]


def _delete(cache: Cache, since: float) -> bool:
    """Delete a cache, unless a process is using the cache or has used it in the meantime.

    Args:
        cache: An old cache, in the state in which it was found.
        since: Time in ms since 1970. A folder is kept if its last use is at or after this time.

    Returns:
        Whether the cache was deleted.
    """
    try:
        with _lock(cache).acquire(blocking=False):
            if cache.run_id:
                tag, folder = IN_RUNS[cache.kind]
                tracking.delete_tag(cache.run_id, tag)  # before the files, because the tag says that all files exist
                tracking.delete_folder(cache.run_id, folder)
            elif cache.folder and caches.in_folder(cache.kind, cache.folder).used < since:
                _empty(cache.folder)
            else:
                return False
    except Timeout:
        return False
    return True


def _lock(cache: Cache) -> FileLock:
    """Return the lock that a process holds while it creates a cache."""
    if cache.folder is None:
        return lock_of(f"{IN_RUNS[cache.kind][1]} of {cache.run_id}")
    if cache.kind == "decoded data":
        return FileLock(cache.folder / DECODED_LOCK, mode=0o600)
    if cache.kind in ("downloaded knowledge", "downloaded data"):
        return lock_of(copy_lock(cache.folder.name))
    return lock_of(cache.folder.name)


def _empty(folder: Path) -> None:
    """Delete all contents of a folder except the lock file. If nothing is left, delete the folder.

    The lock file is kept, because other processes may be waiting for the lock.
    """
    try:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != DECODED_LOCK:
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or folder}: can't be deleted: {error.strerror}; allowed: files that this user may delete"
        ) from error


def _deleted_run(run: tracking.Run) -> Deleted:
    return Deleted(
        kind=run.kind,
        name=run.name,
        run_id=run.run_id,
        folder=None,
        bytes=tracking.run_bytes(run.run_id),
        last_used=_iso(run.end or run.start),
    )


def _deleted_cache(cache: Cache) -> Deleted:
    return Deleted(
        kind=cache.kind,
        name=cache.name,
        run_id=cache.run_id,
        folder=str(cache.folder) if cache.folder else None,
        bytes=cache.bytes,
        last_used=_iso(cache.used),
    )


def _iso(milliseconds: float) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
