"""The checks of `kd doctor` on servers: their versions, clocks and workers, and whether MLflow can be written to."""

import time
import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import NamedTuple

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound

from flows.services.work_pool import POOL
from tasks.tracking.health import check_writes, server_version

SKEW_SECONDS = 5.0  # a larger difference between two clocks is reported
LATE_SECONDS = 60.0  # a run that has been due for longer is reported
TIMEOUT_SECONDS = 10.0


class Finding(NamedTuple):
    """The result of one check, without the check's name. The fields have the same meaning as the fields of `Check`."""

    ok: bool | None
    detail: str
    remedy: str | None = None


def mlflow_server(uri: str) -> Finding:
    """Check the version and the clock of an MLflow server, and whether runs and files can be written."""
    server, ahead = server_version(uri), seconds_ahead(f"{uri}/health")
    check_writes()
    detail = f"MLflow {server}, clock {ahead:+.0f} s, runs and files can be written"
    return _compared("mlflow", server, ahead, detail)


def prefect_server(url: str, server: str) -> Finding:
    """Check the version and the clock of a Prefect server.

    Args:
        url: Address of the server's API.
        server: Version of the server.
    """
    ahead = seconds_ahead(f"{url}/health")
    shown = f", clock {ahead:+.0f} s" if abs(ahead) > SKEW_SECONDS else ""
    return _compared("prefect", server, ahead, f"{url}, Prefect {server}{shown}")


def _compared(package: str, server: str, ahead: float, detail: str) -> Finding:
    """Compare the version and the clock of a server with those of this machine."""
    if server != (client := version(package)):
        return Finding(None, f"{detail}; here is {client}", "use the same version on both sides")
    if abs(ahead) > SKEW_SECONDS:
        return Finding(None, detail, "set the clocks of both machines by NTP; times of runs are wrong otherwise")
    return Finding(True, detail)


def seconds_ahead(url: str) -> float:
    """Return the number of seconds by which the clock of a server is ahead of the clock of this machine."""
    before = time.time()
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
        server = parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5  # the header has whole seconds
    return server - (before + time.time()) / 2


def prefect_worker(client: SyncPrefectClient) -> Finding:
    """Check whether a worker takes scheduled runs, and whether a run is late."""
    try:
        workers = client.read_workers_for_work_pool(POOL)
    except ObjectNotFound:
        return Finding(True, "no schedule exists")
    online = [worker.name for worker in workers if worker.status == WorkerStatus.ONLINE]
    late = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])),
            expected_start_time=FlowRunFilterExpectedStartTime.model_validate(
                {"before_": datetime.now(UTC) - timedelta(seconds=LATE_SECONDS)}
            ),
        ),
    )
    waiting = f"; waiting for over a minute: {', '.join(run.name for run in late)}" if late else ""
    if not online:
        return Finding(
            None if late else True, f"none is online{waiting}", "start a worker: kd worker or kd up" if late else None
        )
    return Finding(None if late else True, f"{', '.join(online)}{waiting}")
