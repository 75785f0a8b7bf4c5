"""The state of the `kd up` of this machine. Other commands read the address of the Prefect server from its state file.

A running `kd up` holds a lock, which the operating system releases when the process ends. A state file
without a held lock belongs to a killed `kd up` and is ignored, even if another program has the same process id.

This module does not import Prefect or pydantic.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.services.prefect_health import BUSY_SECONDS, answers
from flows.services.prefect_settings import prefect_home
from kdmodels.errors import UserError
from kdmodels.files.atomic import write_whole

PROBE_SECONDS = 1.0  # other commands hold the lock for a moment to find out whether `kd up` holds it


@dataclass(frozen=True)
class Service:
    """A process that `kd up` started.

    Attributes:
        name: Name of the service, e.g. "Prefect server".
        pid: Process id. Ending this process ends the service.
        address: Address of the service. The worker has no address.
        log: Path of the log file.
    """

    name: str
    pid: int
    address: str | None
    log: str


@dataclass(frozen=True)
class UpState:
    """The state of a `kd up`.

    Attributes:
        url: Address of the API of the Prefect server.
        pid: Process id of the `kd up`.
        auth: `user:password` of the Prefect server.
        started: Time at which the servers answered, in ISO 8601.
        store: Address of the tracking store. If the address contains a secret, the value is None.
        services: The processes that `kd up` started.
    """

    url: str
    pid: int
    auth: str = ""
    started: str | None = None
    store: str | None = None
    services: tuple[Service, ...] = ()


def state_file() -> Path:
    """Return the path of the state file. The file contains an `UpState` as JSON."""
    return prefect_home() / "kdflow-server.json"


def up_state() -> UpState | None:
    """Return the state of the `kd up` on this machine. If no `kd up` runs, or its server does not answer, return None.

    The state file of a killed `kd up` is ignored.
    """
    state = running_up()
    return state if state and answers(state.url, BUSY_SECONDS) else None


def running_up() -> UpState | None:
    """Return the state of the `kd up` that runs on this machine. If none runs or it is still starting, return None.

    Once it has started, the state is returned even if one of its servers no longer answers.
    """
    try:
        content: dict[str, Any] = json.loads(state_file().read_text())
    except FileNotFoundError:
        return None
    if not up_is_locked():
        return None
    services = tuple(Service(**service) for service in content.pop("services"))
    return UpState(**content, services=services)


def up_is_locked() -> bool:
    """Return whether a `kd up` runs, starts or stops on this machine."""
    if not prefect_home().exists():
        return False
    lock = _lock()
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


@contextlib.contextmanager
def only_up() -> Iterator[None]:
    """Let no other `kd up` run on this machine during the `with` block, and delete the state file of a killed `kd up`.

    Raises:
        UserError: Another `kd up` runs, starts or stops.
    """
    lock = _lock()
    try:
        lock.acquire(timeout=PROBE_SECONDS)
    except Timeout as error:
        raise other_up() from error
    try:
        state_file().unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def other_up() -> UserError:
    """Return the error for a `kd up` that was called while another `kd up` runs."""
    if state := running_up():
        return UserError(f"kd up runs already (process {state.pid}, {state.url}): stop it first with kd down")
    return UserError("another kd up is starting or stopping: try again when kd status shows its state")


@contextlib.contextmanager
def announced(state: UpState) -> Iterator[None]:
    """Write the state file, and delete the file when the `with` block ends."""
    path = write_whole(state_file(), lambda partial: partial.write_text(json.dumps(asdict(state))))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _lock() -> FileLock:
    return FileLock(prefect_home() / "kdflow-up.lock", thread_local=False, fallback_to_soft=False, mode=0o600)
