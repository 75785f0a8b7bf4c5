"""`kd gc`: what has not been used for long is deleted, but for what a model, a comparison or a command needs."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kdmodels.errors import UnavailableError
from kdmodels.folders import DECODED_LOCK
from tasks import caches, tracking
from tasks.caches import Cache
from tasks.needs import in_use, needed
from tasks.results import COMPLETE, KNOWLEDGE, MEMBERS
from tasks.steps import PLANNING, alone, lock_of

Told = dict[str, Any]


def collect(
    older_than: float, tell: Callable[[Told], None], *, dry_run: bool = False, now: float | None = None
) -> dict[str, Any]:
    """Delete the runs that ended, and the caches that were used last, so many seconds ago or more.

    What it does not get to, since it is interrupted, the next one does: runs go one by one, from the students to the
    comparisons, and each is marked before it is deleted.

    Args:
        tell: of each, once it is deleted: kind, name, run_id and folder (one of them None), bytes, last_used.
        dry_run: tell, and delete nothing.
        now: seconds since 1970; None: by the clock.

    Returns:
        deleted (how many), bytes, needed (how many older runs stay) and for_good (whether the store can delete runs).

    Raises:
        UnavailableError: a file can't be deleted.
    """
    tracking.configure()
    if not dry_run:
        tracking.end_abandoned()  # else what they planned stays for ever
    since = ((time.time() if now is None else now) - older_than) * 1000
    deleted, size = 0, 0
    with ExitStack() as held:
        held.enter_context(alone(PLANNING))  # no command is between its plan and the run that tells of it
        runs = _runs()
        for model in sorted({run.params["promote.model"] for run in runs if "promote.model" in run.params}):
            held.enter_context(alone(f"model {model}"))  # nor between the gate and the registry
        kept = needed(runs, tracking.registered_runs(), since)
        doomed = sorted((run for run in runs if run.run_id not in kept), key=_turn)
        staying = [run for run in runs if run.run_id in kept]
        for run in doomed:
            told = _told_of_run(run)
            if not dry_run:
                tracking.delete_run(run.run_id)
            tell(told)
            deleted, size = deleted + 1, size + told["bytes"]
        for cache in _unused(staying, since):
            if dry_run or _deleted(cache, since):
                tell(_told_of_cache(cache))
                deleted, size = deleted + 1, size + cache.bytes
    return {
        "deleted": deleted,
        "bytes": size,
        "needed": sum(run.end is not None and run.end < since for run in staying),
        "for_good": tracking.deletes_for_good(),
    }


def _runs() -> list[tracking.Run]:
    """All that there are, and where runs can be deleted for good, those that so far are only marked."""
    marked = tracking.marked_runs() if tracking.deletes_for_good() else []
    return [*tracking.every_run(), *(replace(run, end=run.end or run.start) for run in marked)]


def _turn(run: tracking.Run) -> int:
    """What refers to others goes before them, but for comparisons: of a student that stays for now it is the origin."""
    if run.kind == "student":
        return 0
    if run.kind == "teacher":
        return 1 if MEMBERS in run.tags else 2
    return 3


def _unused(runs: Sequence[tracking.Run], since: float) -> list[Cache]:
    busy = in_use(runs)
    found = [*caches.decoded(), *caches.checkpoints(), *caches.knowledge(runs)]
    unended = {run.key for run in runs if run.status in ("RUNNING", "KILLED")}
    return [
        cache
        for cache in found
        if cache.used < since
        and cache.run_id not in busy
        and not (cache.kind == "checkpoints" and cache.name in unended)  # a run that stays may go on with them
    ]


def _deleted(cache: Cache, since: float) -> bool:
    """Delete it, unless somebody uses it now, or has since it was listed."""
    try:
        with _lock(cache).acquire(blocking=False):
            if cache.run_id:
                tracking.delete_tag(cache.run_id, COMPLETE)  # first: what is half deleted is not whole
                tracking.delete_folder(cache.run_id, KNOWLEDGE)
            elif cache.folder and caches.in_folder(cache.kind, cache.folder).used < since:
                _empty(cache.folder)
            else:
                return False
    except Timeout:
        return False
    return True


def _lock(cache: Cache) -> FileLock:
    """What is held while it is made."""
    if cache.folder is None:
        return lock_of(f"knowledge of {cache.run_id}")
    if cache.kind == "decoded data":
        return FileLock(cache.folder / DECODED_LOCK, mode=0o600)
    return lock_of(cache.folder.name)


def _empty(folder: Path) -> None:
    """Delete all but a lock, for which others may be waiting."""
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


def _told_of_run(run: tracking.Run) -> Told:
    size, ended = tracking.run_bytes(run.run_id), _iso(run.end or run.start)
    return {"kind": run.kind, "name": run.name, "run_id": run.run_id, "folder": None, "bytes": size,
            "last_used": ended}  # fmt: skip


def _told_of_cache(cache: Cache) -> Told:
    folder = str(cache.folder) if cache.folder else None
    return {"kind": cache.kind, "name": cache.name, "run_id": cache.run_id, "folder": folder, "bytes": cache.bytes,
            "last_used": _iso(cache.used)}  # fmt: skip


def _iso(milliseconds: float) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
