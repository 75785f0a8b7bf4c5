"""Whether the process that records a run is still there: it holds a lock as long, which the system frees at its death.

The locks lie in a folder of this machine: of runs that another machine records, nothing is known here.
"""

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from kdmodels.errors import UnavailableError
from kdmodels.folders import cache_folder, private_folder

LOCK = "kd.lock"  # the tag that names a run's lock
NAME = re.compile("[0-9a-f]{32}")

_held: dict[str, FileLock] = {}


def machine_folder(name: str) -> Path:
    """A folder, made if need be, of what this machine keeps about the store in use, which `configure` has named.

    Raises:
        UserError: it can't be made.
    """
    store = sha256(os.environ["MLFLOW_TRACKING_URI"].encode()).hexdigest()[:16]
    folder = cache_folder() / "stores" / store / name
    try:
        private_folder(folder)
    except OSError as error:
        raise UnavailableError(
            f"{folder}: can't be made: {error.strerror}; allowed: a folder that can be written, by $XDG_CACHE_HOME"
        ) from error
    return folder


def hold() -> dict[str, str]:
    """Hold a new lock; the tag that names it."""
    name = uuid4().hex
    lock = _lock(name)
    lock.acquire()
    _held[name] = lock
    return {LOCK: name}


def release(tags: Mapping[str, str]) -> None:
    """Free a run's lock, if this process holds it; its file stays, as a dead process's does."""
    held = _held.pop(tags.get(LOCK, ""), None)
    if held:
        held.release()


def forget(tags: Mapping[str, str]) -> None:
    """Remove the file of a lock whose run has ended, or has another lock now."""
    if NAME.fullmatch(tags.get(LOCK, "")):
        _path(tags[LOCK]).unlink(missing_ok=True)


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether a process of this machine recorded the run of these tags, and is no longer there."""
    name = tags.get(LOCK, "")
    if not NAME.fullmatch(name) or name in _held or not _path(name).exists():
        return False
    try:
        with _lock(name).acquire(blocking=False):
            return True
    except Timeout:
        return False


def _path(name: str) -> Path:
    return machine_folder("runs") / f"{name}.lock"


def _lock(name: str) -> FileLock:
    # Held across threads; the file is what a dead process leaves behind.
    return FileLock(_path(name), thread_local=False, preserve_lock_file=True, fallback_to_soft=False, mode=0o600)
