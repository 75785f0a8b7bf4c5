"""Functions that find or start the Prefect server for a command.

The server is the user's own server, the server of `kd up`, or a temporary server.

This module does not import Prefect, so that the server starts while the caller imports Prefect and torch.

Prefect's own temporary server is not used. It starts only when the flow starts, and it keeps running if the command is
killed.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from flows.services.prefect_health import answers, refusal
from flows.services.prefect_internals.client import refresh_settings, send_queued_logs_and_events
from flows.services.prefect_settings import (
    QUIET,
    auth_string,
    configured_url,
    environment_variables,
    prefect_home,
    setting,
)
from flows.services.processes import spawn, stop
from flows.services.up_state import up_state
from kdmodels.errors import UnavailableError, UserError, redacted
from tasks.same_origin import own_origins

START_SECONDS = 120  # the first start migrates the database, which takes seconds, or much longer on a busy machine
REMOTE_SECONDS = 5
QUEUE_SECONDS = 5

# A temporary server has no UI, so it does not register Prefect's ready-made blocks, which only the UI uses. Memoization
# is off too. It would record the blocks as registered, and then the server of `kd up` would not register them.
NO_BLOCKS = {"PREFECT_API_BLOCKS_REGISTER_ON_START": "false", "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false"}


NO_UI = {"PREFECT_UI_URL": ""}  # without the address of a UI, flows create no artifacts and no links

# Flows write a line for each stage and student to their log. Prefect's own reports on tasks are left out.
FLOW_LOGS = {"PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO"}


@dataclass(frozen=True)
class Server:
    """A Prefect server.

    Attributes:
        url: Address of the server's API.
        process: Process of the server if this process started the server. For other servers, the value is None.
        log: Log file of a temporary server. For other servers, the value is None.
    """

    url: str
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None

    def ready(self) -> bool:
        """Return whether the server answers."""
        return answers(self.url)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until the server answers.

        Args:
            seconds: Timeout for a server that this process started.

        Raises:
            UnavailableError: The server cannot be reached, has stopped, does not answer in time, or refuses the user's
                password. If the server is temporary, the message quotes the last error in its log.
        """
        deadline = time.monotonic() + (seconds if self.process else REMOTE_SECONDS)
        while not self.ready():
            if self.process is None and time.monotonic() > deadline:
                raise UnavailableError(
                    f"no Prefect server answers at {redacted(self.url)}, which PREFECT_API_URL or the profile names"
                )
            if self.process and self.process.poll() is not None:
                raise UnavailableError(f"the temporary Prefect server stopped at its start: {self._last_error()}")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the temporary Prefect server is not ready after {seconds:g} s: {self._last_error()}"
                )
            time.sleep(0.05)
        if self.process is None and (status := refusal(self.url)):
            raise UnavailableError(
                f"the Prefect server at {redacted(self.url)} refused us (HTTP {status}); set PREFECT_API_AUTH_STRING "
                "to its user:password, in the environment or the profile"
            )

    def _last_error(self) -> str:
        if self.log is None:
            return "see its log above"
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
        return (errors or lines or ["its log is empty"])[-1]


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Provide a Prefect server while the `with` block runs. Child processes get its address and password.

    Use the first of these servers that is available:

    1. The server whose address is set by PREFECT_API_URL or the active profile. Its password is the user's
       PREFECT_API_AUTH_STRING.
    2. The server of a `kd up` on this machine.
    3. A temporary server on a free loopback port. It stops when the `with` block ends or this process ends.

    The server may still be starting when the `with` block begins. Import slow modules first, then call `wait_ready()`.
    A `PREFECT_API_URL` in a `prefect.toml` or `.env` of the working folder is ignored.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    prefect_home().mkdir(mode=0o700, parents=True, exist_ok=True)
    refresh_settings()
    url, state = configured_url(), up_state()
    if state and url in (None, state.url):
        auth = (url and setting("PREFECT_API_AUTH_STRING")) or state.auth
        with environment_variables(FLOW_LOGS), _client_of(state.url, auth):
            yield Server(state.url)
        return
    if url:
        with environment_variables(FLOW_LOGS), _queues_sent(url):
            yield Server(url)
        return
    with tempfile.TemporaryFile() as log:
        listener = bind(0)
        auth = auth_string()
        process, url = start_server(listener, auth, ephemeral=True, log=log)
        try:
            with environment_variables(NO_UI), _client_of(url, auth):
                yield Server(url, process, log)
        finally:
            stop(process)


@contextlib.contextmanager
def _client_of(url: str, auth: str) -> Iterator[None]:
    with environment_variables({"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": auth}), _queues_sent(url):
        yield


@contextlib.contextmanager
def _queues_sent(url: str) -> Iterator[None]:
    """Send queued logs and events when the `with` block ends, if the server answers.

    Logs and events must be sent before the server stops. Otherwise, Prefect reports errors when the process exits. They
    must also be sent before the process ends, because `kd` may end the process without running exit handlers.
    """
    try:
        yield
    finally:
        if "prefect.events.worker" in sys.modules and answers(url):
            send_queued_logs_and_events(QUEUE_SECONDS)


def bind(port: int, *, option: str = "--port") -> socket.socket:
    """Bind a loopback socket, so that no other process takes the port before the server listens.

    Args:
        port: Port of the loopback address. If the port is 0, a free port is used.
        option: Command-line option that changes the port.

    Raises:
        UserError: The port cannot be used.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise UserError(f"port {port} cannot be used ({error.strerror}): choose another with {option}") from error
    return listener


def start_server(
    listener: socket.socket,
    auth: str,
    *,
    ephemeral: bool,
    log: IO[bytes] | int,
    environment: dict[str, str] | None = None,
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Prefect server on a bound socket.

    Args:
        listener: Bound socket. The server takes over the socket, and this process closes its copy.
        auth: `user:password` that clients must send.
        ephemeral: Whether the server is temporary. A temporary server has no UI and no scheduler.
        log: File for the server's output.
        environment: Environment variables to add.

    Returns:
        The server's process, and the address of its API.
    """
    with listener:
        port = listener.getsockname()[1]
        mode = "ephemeral" if ephemeral else "persistent"
        command = [sys.executable, "-P", "-m", "flows.services.serve_prefect", str(listener.fileno()), mode]
        settings = {
            **(environment or {}),
            "PREFECT_SERVER_API_AUTH_STRING": auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port)),
            **(NO_BLOCKS if ephemeral else {}),
        }
        process = spawn(command, log=log, env=settings, fds=(listener.fileno(),))
    return process, f"http://127.0.0.1:{port}/api"
