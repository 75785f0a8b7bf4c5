"""Folders that are there only as long as they are used, and those that a killed process could not delete.

Whoever uses a folder holds a lock as long, which the system frees at its death: that tells the two apart.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from kdmodels.folders import DECODED_LOCK, cache_folder

PREFIX, LOCK = "kdflow-", ".lock"
NAME = re.compile(rf"{PREFIX}[0-9a-f]{{32}}")  # and no other: a user may have folders that begin so


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in the system's place for them; its lock is beside it, for all that is in it may be stored."""
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{uuid4().hex}"
    lock = folder.with_suffix(LOCK)
    with _lock(lock):  # first: at no moment is the folder there and its lock free
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            _delete(folder, lock)


@dataclass(frozen=True)
class Orphan:
    """A folder whose process is gone, and what is in it."""

    folder: Path
    megabytes: float
    what: str


def orphans(*, delete: bool = False) -> list[Orphan]:
    """This user's folders whose lock nobody holds: temporary ones, and those of data that was being decoded.

    A folder that has no lock is nobody's that is known here, and stays.

    Args:
        delete: them too, and locks that a process left without a folder; then those are returned that are gone.
    """
    found = []
    for folder, lock, what in _candidates():
        if not _is_own(lock, stat.S_IFREG):
            continue
        with suppress(Timeout), _lock(lock).acquire(blocking=False):
            there = _is_own(folder, stat.S_IFDIR)
            if not there and os.path.lexists(folder):  # somebody else's, or a link
                continue
            orphan = Orphan(folder, _bytes(folder) / 1e6, what)
            if delete:
                _delete(folder, lock)
            if there and not (delete and folder.exists()):
                found.append(orphan)
    return found


def _candidates() -> Iterator[tuple[Path, Path, str]]:
    """Each folder, its lock and what is in it."""
    for lock in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}")):
        if NAME.fullmatch(lock.stem):
            yield lock.with_suffix(""), lock, "temporary files"
    for folder in sorted((cache_folder() / "decoded").glob("*/partial-*")):  # as kdmodels/data/cache.py names them
        yield folder, folder.with_name(DECODED_LOCK), "half-decoded data"


def _lock(file: Path) -> FileLock:
    # Held across threads; the file is what a dead process leaves behind.
    return FileLock(file, thread_local=False, preserve_lock_file=True, fallback_to_soft=False, mode=0o600)


def _is_own(path: Path, kind: int) -> bool:
    """Whether it is this user's and of that kind itself, not by a link."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return False
    return about.st_uid == os.getuid() and stat.S_IFMT(about.st_mode) == kind


def _bytes(folder: Path) -> int:
    return sum(Path(place, name).lstat().st_size for place, _, names in os.walk(folder) for name in names)


def _delete(folder: Path, lock: Path) -> None:
    """Delete a folder whose lock is held, and then the lock, but for that of all data decoded from one place.

    What can't be deleted keeps its lock's file, by which `orphans` tells of it.
    """
    shutil.rmtree(folder, ignore_errors=True)  # which follows no link
    if lock.name != DECODED_LOCK and not os.path.lexists(folder):
        lock.unlink(missing_ok=True)  # who waits for it sees that its file is gone
