"""The Prefect worker of a team: `kd worker`. It runs the schedules of a Prefect server on any machine.

Its environment variables name the folder and the code of the runs (see `schedule_records`). If the worker is killed or
stopped, it starts the unfinished runs again at its next start. The runs continue from their checkpoints.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorkerResult

from flows.services.children import start_module, until_stopped, wait_for_exit
from flows.services.dead_runs import HEARTBEAT_SECONDS, prepare_automation
from flows.services.prefect_server import Server
from flows.services.prefect_settings import QUIET, configured_url, prefect_home
from flows.services.processes import stop
from flows.services.work_pool import POOL, prepare_pool
from flows.services.worker import ScheduleWorker
from kdmodels.errors import UsageError, redacted
from kdmodels.files.folders import private_folder
from tasks import tracking

POLL_SECONDS = 2  # interval at which the worker looks for due runs
MOST_ATTEMPTS = 3  # maximum attempts at one run. A run that is killed each time may need too much memory


def run_worker(*, health_port: int | None = None) -> None:
    """Run the schedules of the configured Prefect server until Ctrl-C or SIGTERM.

    A run that is stopped writes a checkpoint.

    Args:
        health_port: Loopback port on which `GET /health` reports whether the worker still looks for due runs.

    Raises:
        UsageError: No Prefect server is configured.
        UserError: The Prefect server or the tracking store cannot be used, or the worker's process exits.
    """
    url = configured_url()
    if url is None:
        raise UsageError(
            "PREFECT_API_URL: expected the address of the team's Prefect server, e.g. http://HOST:4200/api"
        )
    Server(url).wait_ready()
    store = tracking.configure()
    environment = {
        **{name: os.environ.get(name, value) for name, value in QUIET.items()},
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "INFO"),
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    }
    if data := os.environ.get("KD_DATA"):  # absolute, because a scheduled run has another working folder
        environment["KD_DATA"] = str(Path(data).absolute())
    arguments = []
    if health_port is not None:
        environment |= {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(health_port)}
        arguments = ["--health"]
    with until_stopped() as children:
        children["the worker"] = start_module([__name__, *arguments], environment)
        print(
            f"Prefect  {redacted(url)}\nMLflow   {redacted(store)}\nCtrl-C stops the worker.",
            file=sys.stderr,
            flush=True,
        )
        wait_for_exit(children)


Run = Callable[..., Coroutine[Any, Any, ProcessWorkerResult]]


def remembering(run: Run) -> Run:
    """Wrap a worker's method `run`, so that a file names each flow run whose process has not ended.

    If the worker is stopped or killed, the files remain. The next worker process reads them in `retry_unfinished`.
    """

    async def remembered(flow_run: FlowRun, *args: Any, **kwargs: Any) -> ProcessWorkerResult:
        file = _unfinished_folder() / str(flow_run.id)
        file.touch(mode=0o600)
        result = await run(flow_run, *args, **kwargs)
        file.unlink(missing_ok=True)
        return result

    return remembered


def retry_unfinished(client: SyncPrefectClient) -> list[str]:
    """Schedule the unfinished runs of the previous worker process again, and return their names.

    These runs ended with the previous worker process, even if Prefect still shows them as running.
    """
    names = []
    for file in _unfinished_folder().iterdir():
        with contextlib.suppress(ObjectNotFound):  # the run was deleted
            flow_run = client.read_flow_run(UUID(file.name))
            if _retry(client, flow_run):
                names.append(flow_run.name)
        file.unlink(missing_ok=True)
    return names


def _retry(client: SyncPrefectClient, flow_run: FlowRun) -> bool:
    """Schedule an unfinished run again. Return False if the run is cancelled, has ended, or was tried too often."""
    state = flow_run.state
    if state is None or (state.is_final() and not state.is_crashed()):
        return False
    if state.is_cancelling():
        client.set_flow_run_state(flow_run.id, Cancelled(message="The worker was stopped."), force=True)
        return False
    if not state.is_final():  # frees the concurrency slot of the run
        client.set_flow_run_state(flow_run.id, Crashed(message="The worker was stopped."), force=True)
    if flow_run.run_count >= MOST_ATTEMPTS:
        return False
    client.set_flow_run_state(flow_run.id, AwaitingRetry(), force=True)
    return True


def _unfinished_folder() -> Path:
    return private_folder(prefect_home() / "kdflow-unfinished")


def main() -> None:
    """Run due flow runs, one at a time, until SIGINT or SIGTERM.

    Another process creates the deployments whose forms start promotions and rollbacks from Prefect's UI.
    """
    with get_client(sync_client=True) as client:
        prepare_pool(client)
        prepare_automation(client)
        for name in retry_unfinished(client):
            print(f"runs again, because the worker was stopped: {name}", file=sys.stderr, flush=True)
    forms = start_module(["flows.services.forms"])
    name = f"kdflow on {socket.gethostname()}"
    worker = ScheduleWorker(POOL, name=name, limit=1, create_pool_if_not_found=False)  # one run uses all cores
    worker.run = remembering(worker.run)  # type: ignore[method-assign]
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    try:
        asyncio.run(worker.start(with_healthcheck="--health" in sys.argv))
    finally:
        stop(forms)


if __name__ == "__main__":
    main()
