"""Temporary folders, and the search for temporary folders that a killed process left behind.

A process holds the lock of a folder while the process uses the folder. The operating system releases the lock when the
process dies. If the lock of an existing folder is free, the folder was therefore left behind.
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

from kdmodels.files.folders import DECODED_LOCK, cache_folder, folder_bytes

PREFIX, LOCK = "kdflow-", ".lock"
NAME = re.compile(rf"{PREFIX}[0-9a-f]{{32}}")  # strict, because a user may have other folders with this prefix


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder in the system's temporary directory, and delete the folder when the block ends.

    The lock file is next to the folder, not in the folder, because callers may store the whole content of the folder.
    """
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{uuid4().hex}"
    lock = folder.with_suffix(LOCK)
    with _lock(lock):  # acquired first, so that the folder never exists while its lock is free
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            _delete(folder, lock)


@dataclass(frozen=True)
class Orphan:
    """A folder that a killed process left behind.

    Args:
        folder: The folder.
        megabytes: The size of the folder's content in 10^6 bytes.
        content: A description of the folder's content.
    """

    folder: Path
    megabytes: float
    content: str


def orphans(*, delete: bool = False) -> list[Orphan]:
    """Return the folders that killed processes of this user left behind: temporary files and half-decoded data.

    A folder without a lock file does not belong to kdflow. Such a folder is neither returned nor deleted.

    Args:
        delete: Whether to delete the folders. If true, only the deleted folders are returned. Lock files without a
            folder are deleted too.
    """
    free = []
    for folder, lock, content in _candidates():
        if not _is_own(lock, stat.S_IFREG):
            continue
        with suppress(Timeout), _lock(lock).acquire(blocking=False):
            exists = _is_own(folder, stat.S_IFDIR)
            if not exists and os.path.lexists(folder):  # the folder belongs to another user, or is a link
                continue
            orphan = Orphan(folder, folder_bytes(folder) / 1e6, content)
            if delete:
                _delete(folder, lock)
            if exists and not (delete and folder.exists()):
                free.append(orphan)
    return free


def _candidates() -> Iterator[tuple[Path, Path, str]]:
    """Yield folders that may have been left behind, each with its lock file and a description of its content."""
    for lock in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK}")):
        if NAME.fullmatch(lock.stem):
            yield lock.with_suffix(""), lock, "temporary files"
    for folder in sorted((cache_folder() / "decoded").glob("*/partial-*")):  # kdmodels/data/cache.py sets this name
        yield folder, folder.with_name(DECODED_LOCK), "half-decoded data"


def _lock(file: Path) -> FileLock:
    # The lock is not tied to a thread. The lock file is kept, because it shows which folder a dead process left behind.
    return FileLock(file, thread_local=False, preserve_lock_file=True, fallback_to_soft=False, mode=0o600)


def _is_own(path: Path, kind: int) -> bool:
    """Return whether a path belongs to this user and has the file type `kind`. Links are not followed."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return status.st_uid == os.getuid() and stat.S_IFMT(status.st_mode) == kind


def _delete(folder: Path, lock: Path) -> None:
    """Delete a folder, and then its lock file. The caller must hold the lock.

    The lock file of decoded data is kept, because several folders share the file. If the folder can't be deleted, the
    lock file is kept too, so that `orphans` finds the folder again.
    """
    shutil.rmtree(folder, ignore_errors=True)  # follows no links
    if lock.name != DECODED_LOCK and not os.path.lexists(folder):
        lock.unlink(missing_ok=True)  # a process that waits for the lock notices that the lock file was deleted
