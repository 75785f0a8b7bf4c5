"""Functions that detect dead processes.

A process holds a lock while it records a run. When the process dies, the operating system frees the lock. The lock
files are on this machine, so the processes of other machines can't be checked.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

from filelock import FileLock, Timeout

from kdmodels.errors import UnavailableError
from kdmodels.files.folders import cache_folder, private_folder
from tasks.tracking.tags import Tag

_NAME = re.compile("[0-9a-f]{32}")


def machine_folder(name: str) -> Path:
    """Create a folder for this machine's files that belong to the current tracking store, and return the folder.

    Call `tasks.tracking.configure` first, because that function sets the current tracking store.

    Args:
        name: Name of the folder.

    Raises:
        UserError: The folder can't be created.
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


class RunLock:
    """A lock that this process holds while it records a run. The lock is held from its creation until `release`.

    Args:
        name: Name of the lock, 32 hexadecimal digits. Default: a random name.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name or uuid4().hex
        self._lock = _lock(self._name)
        self._lock.acquire()

    @property
    def tag(self) -> dict[str, str]:
        """The tag that holds the name of the lock. The run gets this tag, so that other processes can find the lock."""
        return {Tag.LOCK: self._name}

    def release(self) -> None:
        """Free the lock, but keep the lock file until `forget` deletes the file.

        The death of the process has the same effect.
        """
        self._lock.release()


def forget(tags: Mapping[str, str]) -> None:
    """Delete the lock file of a run that has ended or has a new lock.

    Args:
        tags: Tags of the run, with the name of the old lock.
    """
    if _NAME.fullmatch(tags.get(Tag.LOCK, "")):
        _path(tags[Tag.LOCK]).unlink(missing_ok=True)


def is_dead(tags: Mapping[str, str]) -> bool:
    """Return whether the process that recorded a run was on this machine and no longer exists.

    Args:
        tags: Tags of the run.
    """
    name = tags.get(Tag.LOCK, "")
    if not _NAME.fullmatch(name) or not _path(name).exists():
        return False
    try:
        with _lock(name).acquire(blocking=False):
            return True
    except Timeout:
        return False


@contextmanager
def flow_run_alive(flow_run: UUID) -> Iterator[None]:
    """Hold a lock during the `with` block, so that `is_flow_run_dead` recognises the death of this process."""
    lock = RunLock(flow_run.hex)
    try:
        yield
    finally:
        lock.release()
        forget(lock.tag)


def is_flow_run_dead(flow_run: UUID) -> bool:
    """Return whether the process of a Prefect flow run was on this machine, used this store and no longer exists."""
    return is_dead({Tag.LOCK: flow_run.hex})


def _path(name: str) -> Path:
    return machine_folder("runs") / f"{name}.lock"


def _lock(name: str) -> FileLock:
    # All threads of the process share the lock. The lock file must remain after the death of the process, because the
    # file shows that the process existed.
    return FileLock(_path(name), thread_local=False, preserve_lock_file=True, fallback_to_soft=False, mode=0o600)
