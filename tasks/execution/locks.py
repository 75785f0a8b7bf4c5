"""Locks between the processes of this machine that use the same store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from tasks import tracking
from tasks.execution import interruption

POLL_SECONDS = 0.2
PLANNING = "planning"
"""Name of the lock that a comparison holds from its planning until its MLflow run records which runs it reuses."""


def copy_lock(run_id: str) -> str:
    """Return the name of the lock that a process holds while it downloads a run's files to this machine."""
    return f"copy of {run_id}"


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Wait for the lock with this name, and hold the lock during the `with` block.

    If a stop is requested while waiting, raise KeyboardInterrupt.
    """
    lock = lock_of(name)
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            interruption.check()
            time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # a waiting process notices this and creates the file again
        lock.release()


def lock_of(name: str) -> FileLock:
    """Return the lock with this name, without acquiring it."""
    file = tracking.machine_folder("locks") / f"{sha256(name.encode()).hexdigest()[:32]}.lock"
    return FileLock(file, thread_local=False, fallback_to_soft=False, mode=0o600)
