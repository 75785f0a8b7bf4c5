"""Locks between all processes, on any machine, that use the same MLflow server and the same Prefect server.

A lock is a concurrency limit of the Prefect server with one slot. A process that takes the slot gets a lease, which a
thread renews. If the process or its machine dies, the lease expires, and the Prefect server frees the slot.

A process can lose its lease without noticing, for example because its machine was suspended. A second process can then
hold the lock too. For training, this costs time only: both processes train the network, and each records a run of its
own, see `tasks.execution.checkpoint_uploads`. The promotion gate reads the champion again before it changes the
champion, and refuses if another process was faster. A check of the lease would not be safer, because the lease could
expire between the check and the change of the champion.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.exceptions import MissingContextError, ObjectAlreadyExists, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

from kdmodels.errors import UnavailableError, redacted
from kdmodels.files.atomic import write_whole
from tasks import tracking
from tasks.execution import interruption
from tasks.execution.background import repeated
from tasks.execution.locks import exclusive, lock_of

LEASE_SECONDS = 60.0  # the shortest lease that Prefect allows
RENEWAL_SECONDS = 15.0
POLL_SECONDS = 2.0
OUTAGE_SECONDS = 60.0  # time to wait for a server that does not answer
LOCKED = 423  # HTTP status if another process has the slot


@contextmanager
def team_exclusive(name: str) -> Iterator[None]:
    """Wait for the lock with this name, and hold the lock during the `with` block.

    The lock of this machine is always taken. If other machines can use the MLflow store, and a Prefect server is
    configured, the lock of the Prefect server is taken too.

    If a stop is requested while waiting, raise KeyboardInterrupt.

    Raises:
        UnavailableError: The Prefect server does not answer.
    """
    with exclusive(name):
        url = PREFECT_API_URL.value()
        if not (url and tracking.is_shared()):
            yield
            return
        # A process of this machine that was killed left its lease in the file. The process is dead, because it no
        # longer holds the lock of this machine.
        file = Path(lock_of(name).lock_file).with_suffix(".lease")
        # Use a new client, because tasks that run in other threads may close the client of the flow.
        login = {"auth_string": PREFECT_API_AUTH_STRING.value(), "api_key": PREFECT_API_KEY.value()}
        with SyncPrefectClient(url, **login) as client:
            limit = limit_name(name)
            try:
                _wait_for_server(client)
                if file.exists():
                    client.release_concurrency_slots_with_lease(UUID(file.read_text()))
                lease = _acquire(client, limit)
            except httpx.HTTPError as error:
                raise UnavailableError(
                    f"the Prefect server at {redacted(url)} does not give the lock {limit}: "
                    f"{next(iter(str(error).splitlines()), type(error).__name__)}"
                ) from error
            try:
                write_whole(file, lambda path: path.write_text(str(lease)))
                with _renewed(client, lease):
                    yield
            finally:
                with suppress(httpx.HTTPError):  # the server does not answer, or the lease has expired
                    _release(client, limit, lease)
                file.unlink(missing_ok=True)


def limit_name(name: str) -> str:
    """Return the name of the concurrency limit of a lock, as the Prefect UI shows it.

    The name ends with a digest, because two locks can have the same name after characters are replaced.

    >>> limit_name("model digits/student")
    'kdflow-model-digits-student-f2df1918'
    """
    return f"kdflow-{re.sub('[^A-Za-z0-9_.]+', '-', name)}-{sha256(name.encode()).hexdigest()[:8]}"


def _wait_for_server(client: SyncPrefectClient) -> None:
    """Wait until the server answers. Prefect's client retries requests only after the server has answered once.

    Raises:
        httpx.ConnectError: The server does not answer for `OUTAGE_SECONDS`.
    """
    deadline = time.monotonic() + OUTAGE_SECONDS
    while error := client.api_healthcheck():
        if time.monotonic() > deadline:
            raise error
        interruption.check()
        time.sleep(POLL_SECONDS)


def _acquire(client: SyncPrefectClient, limit: str) -> UUID:
    """Wait until the slot of a limit is free, take the slot, and return the id of the lease."""
    waits = False
    while True:
        interruption.check()
        # The limit exists only while a process holds the lock. Otherwise, the limits of all networks would remain.
        with suppress(ObjectAlreadyExists):
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=limit, limit=1))
        try:
            response = client.increment_concurrency_slots_with_lease([limit], 1, "concurrency", LEASE_SECONDS)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != LOCKED:
                raise
        else:
            granted = ConcurrencyLimitWithLeaseResponse.model_validate_json(response.content)
            if granted.limits:  # otherwise, the previous process has just deleted the limit
                return granted.lease_id
        if not waits:
            waits = True
            with suppress(MissingContextError):  # a worker process has no flow run whose log could get this line
                get_run_logger().info(f"waiting for another machine, which holds the concurrency limit {limit}")
        time.sleep(POLL_SECONDS)


def _release(client: SyncPrefectClient, limit: str, lease: UUID) -> None:
    """Free the slot of a limit, and delete the limit.

    Raises:
        httpx.HTTPStatusError: The lease has expired. The slot may belong to another process, so the limit is kept.
    """
    client.renew_concurrency_lease(lease, LEASE_SECONDS)
    with suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(limit)
    client.release_concurrency_slots_with_lease(lease)


@contextmanager
def _renewed(client: SyncPrefectClient, lease: UUID) -> Iterator[None]:
    """Renew a lease regularly while the `with` block runs."""

    def renew() -> bool:
        with suppress(httpx.HTTPError):  # the server does not answer, or the lease has expired
            client.renew_concurrency_lease(lease, LEASE_SECONDS)
        return False

    with repeated(renew, RENEWAL_SECONDS, f"lease {lease}"):
        yield
