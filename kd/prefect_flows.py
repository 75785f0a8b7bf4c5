"""Context managers for commands that call Prefect flows."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.services.dead_runs import HEARTBEAT_SECONDS
from flows.services.prefect_server import Server, running_server
from kd.prefect_logs import silence_prefect
from kdmodels.errors import UnavailableError


@contextmanager
def server_for_flows() -> Iterator[None]:
    """Provide a Prefect server to the flows in the `with` block, and keep Prefect's logs off the terminal."""
    silence_prefect()
    with running_server() as server:
        server.wait_ready()
        with flow_calls(server):
            yield


@contextmanager
def flow_calls(server: Server) -> Iterator[None]:
    """Configure Prefect's client for the flows in the `with` block, and report a server that stops answering.

    Flows send heartbeats to a permanent server, for the automation of `flows.services.dead_runs`. A temporary server
    has no automation and gets no heartbeats, because the thread that sends heartbeats takes up to 1 s to end.

    Raises:
        UnavailableError: The server stopped answering, and Prefect's client retried for a minute without success.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None if server.process else HEARTBEAT_SECONDS}):
        try:
            yield
        except httpx.TransportError as error:
            raise UnavailableError(
                f"no answer from the Prefect server at {server.url}. Finished runs are kept, and the same "
                "command continues with the others"
            ) from error
