"""Functions that find a persistent Prefect server. A persistent server outlives this command."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client

from flows.services.prefect_health import answers, refusal
from flows.services.prefect_server import running_server
from flows.services.prefect_settings import configured_url
from flows.services.up_state import up_state


def has_persistent_server() -> bool:
    """Return whether the user has configured a Prefect server, or a `kd up` runs on this machine."""
    return configured_url() is not None or up_state() is not None


@contextmanager
def persistent_client() -> Iterator[SyncPrefectClient | None]:
    """Provide a client of the user's Prefect server, or of the server of a `kd up` on this machine.

    If there is no such server, or if the server does not answer or refuses the password, provide None.
    """
    if not has_persistent_server():
        yield None
        return
    with running_server() as server:
        if not answers(server.url) or refusal(server.url):
            yield None
            return
        with get_client(sync_client=True) as client:
            yield client
