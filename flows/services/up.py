"""The services that `kd up` runs on this machine: the Prefect server, the Prefect worker and the MLflow server."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient

from flows.services.children import Children, require_running, start_module, until_stopped, wait_for_exit
from flows.services.dead_runs import HEARTBEAT_SECONDS, dead_runs, end_dead_runs, prepare_automation
from flows.services.logs import ServiceLogs, log_file, service_logs
from flows.services.lost_runs import end_lost_runs
from flows.services.mlflow_server import serve_store, shown_password
from flows.services.prefect_health import answers
from flows.services.prefect_server import START_SECONDS, bind, start_server
from flows.services.prefect_settings import auth_file, auth_string, configured_url, prefect_home, setting
from flows.services.up_state import Service, UpState, announced, only_up, other_up, up_is_locked
from flows.services.work_pool import prepare_pool
from kdmodels.errors import UnavailableError, UsageError, UserError, redacted
from tasks import tracking

POLL_SECONDS = 2  # interval at which the worker looks for due runs
PREFECT, MLFLOW, WORKER = "the Prefect server", "the MLflow server", "the Prefect worker"


@dataclass(frozen=True)
class UpOptions:
    """The options of `kd up`.

    Attributes:
        port: Port of the Prefect UI.
        mlflow_port: Port of the MLflow UI.
        login: Whether the MLflow server requires a user name and a password.
    """

    port: int = 4200
    mlflow_port: int = 5000
    login: bool = False

    @property
    def url(self) -> str:
        """The address of the API of the Prefect server."""
        return f"http://127.0.0.1:{self.port}/api"


def up(options: UpOptions, *, echo: bool = True) -> None:
    """Serve the Prefect UI, schedules and the MLflow UI on this machine until Ctrl-C or SIGTERM.

    Args:
        options: Ports, and whether MLflow needs a login.
        echo: Whether to also print the services' output on stderr. The log files always contain the output.

    Raises:
        UserError: A port is in use, another `kd up` runs, Prefect is configured for another server, or a child process
            exits.
    """
    require_startable(options)
    with only_up(), service_logs(echo=echo) as logs, until_stopped() as children, contextlib.ExitStack() as stack:
        state, mlflow_address = stack.enter_context(_served(options, logs, children))
        # `kd up --detach` shows what is printed before the state is announced.
        print(f"Prefect  {options.url.removesuffix('/api')}  {_login_hint(state.auth)}", file=sys.stderr)
        print(f"MLflow   {mlflow_address}", file=sys.stderr, flush=True)
        with announced(state):
            if echo:
                print("Ctrl-C stops both.", file=sys.stderr, flush=True)
            wait_for_exit(children, log_file)


def require_startable(options: UpOptions) -> None:
    """Require that `kd up` can start with these options.

    Raises:
        UsageError: Both ports are equal.
        UserError: A port is in use, another `kd up` runs, or Prefect is configured for another server.
    """
    port, mlflow_port = options.port, options.mlflow_port
    if port == mlflow_port:
        raise UsageError(
            f"--port {port}: the MLflow server has the same port (--mlflow-port). Choose another port for one of them"
        )
    prefect_home().mkdir(mode=0o700, parents=True, exist_ok=True)
    if up_is_locked():
        raise other_up()
    if (configured := configured_url()) not in (None, options.url):
        raise UserError(
            f"kd up starts its own Prefect server, but PREFECT_API_URL or the profile names {redacted(configured)}: "
            "unset it"
        )
    bind(port).close()
    bind(mlflow_port, option="--mlflow-port").close()


@contextlib.contextmanager
def _served(options: UpOptions, logs: ServiceLogs, children: Children) -> Iterator[tuple[UpState, str]]:
    """Start the services, and wait until the servers answer.

    Yields:
        The state to announce, and a text with the address of the MLflow server.
    """
    auth = auth_string()
    environment = _environment(options.url, auth)
    with contextlib.ExitStack() as stack:
        with bind(options.port) as listener, logs.pipe(PREFECT) as log:
            children[PREFECT], _ = start_server(listener, auth, ephemeral=False, log=log, environment=environment)
        store = tracking.configure()
        addresses, mlflow_address = {PREFECT: options.url.removesuffix("/api")}, redacted(store)
        if not store.startswith("http"):
            with logs.pipe(MLFLOW) as log:
                server = serve_store(store, options.mlflow_port, login=options.login, log=log)
                children[MLFLOW], mlflow_address = stack.enter_context(server)
            addresses[MLFLOW] = f"http://127.0.0.1:{options.mlflow_port}"
        _wait_until_served(children, [options.url, *list(addresses.values())[1:]])
        with SyncPrefectClient(options.url, auth_string=auth) as client:
            prepare_pool(client)
            prepare_automation(client)
            end_lost_runs(client)
            end_dead_runs(client, dead_runs(client))
        with logs.pipe(WORKER) as log:
            children[WORKER] = start_module(["flows.services.worker"], environment, log=log)
        services = tuple(
            Service(name=name.removeprefix("the "), pid=child.pid, address=addresses.get(name), log=str(log_file(name)))
            for name, child in children.items()
        )
        state = UpState(
            url=options.url,
            pid=os.getpid(),
            auth=auth,
            started=datetime.now(UTC).isoformat(),
            store=store if redacted(store) == store else None,
            services=services,
        )
        yield state, mlflow_address


def _wait_until_served(children: Children, urls: list[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(answers(url) for url in urls):
        require_running(children, log_file)
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the servers do not answer after {START_SECONDS} s. Their logs are in {log_file(PREFECT).parent}"
            )
        time.sleep(0.1)


def _environment(url: str, auth: str) -> dict[str, str]:
    """Return the environment variables for the Prefect server, the worker and the worker's runs."""
    data = os.environ.get("KD_DATA")
    return {
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_UI_API_URL": url,  # by default, the UI calls port 4200 even if the server has another port
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # By default, a restart of the server forgets which runs hold concurrency slots, and the slots stay taken.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # The path is absolute, because a scheduled run has another working folder.
        **({"KD_DATA": str(Path(data).absolute())} if data else {}),
    }


def _login_hint(auth: str) -> str:
    if setting("PREFECT_SERVER_API_AUTH_STRING") and not sys.stderr.isatty():
        return "password: your PREFECT_SERVER_API_AUTH_STRING"
    return f"password {shown_password(auth, auth_file(), user=auth.partition(':')[0])}"
