"""The state of this machine's services and schedules, for `kd status`."""

import os
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from pydantic import BaseModel

from flows.services.deployments import ScheduledExperiment, deployments, schedule_client, scheduled_experiment
from flows.services.logs import log_folder
from flows.services.missed_runs import SKIPPED
from flows.services.prefect_health import BUSY_SECONDS, answers
from flows.services.prefect_settings import environment_variables
from flows.services.processes import command_pid
from flows.services.up_state import Service, UpState, running_up, up_is_locked
from kdmodels.errors import UnavailableError
from tasks import tracking
from tasks.tracking.tags import Tag


class ServiceStatus(BaseModel):
    """A service of `kd up`.

    Attributes:
        pid: Process id of the service. If the process has ended, the value is None.
        address: Address of the service. The worker has no address.
        answers: Whether the service answers requests. For the worker, the value is None.
        log: Path of the log file.
    """

    name: str
    pid: int | None
    address: str | None
    answers: bool | None
    log: str


class LastRun(BaseModel):
    """The newest of a schedule's runs that have begun: its name, state and message in Prefect, and its times."""

    name: str
    state: str
    message: str | None
    started: datetime | None
    ended: datetime | None


class ScheduleStatus(ScheduledExperiment):
    """A schedule with its runs and results.

    Attributes:
        next_run: Time of the next run. If the schedule is paused, the value is None.
        last_run: The last run that has started.
        verdict: Verdict of the latest comparison or generation of the experiment, in MLflow.
        champion: The champion, e.g. digits-student/3. The champion is the registered model in use.
    """

    next_run: datetime | None
    last_run: LastRun | None
    verdict: str | None
    champion: str | None


class MachineStatus(BaseModel):
    """The state of the `kd up` of this machine.

    Attributes:
        running: Whether `kd up` runs and has started its services.
        busy: Whether `kd up` is starting or stopping its services.
        logs: Folder of the log files.
        schedules: The schedules. If the Prefect server does not answer, the list is empty.
        store_error: Why the tracking store cannot be read. If it can be read, the value is None. Otherwise, the
            schedules have no verdict and no champion.
    """

    running: bool
    busy: bool
    logs: str
    pid: int | None = None
    started: datetime | None = None
    services: list[ServiceStatus] = []
    schedules: list[ScheduleStatus] = []
    store_error: str | None = None


def machine_status() -> MachineStatus:
    """Return the state of the `kd up` of this machine, and of all schedules."""
    state, logs = running_up(), str(log_folder())
    if state is None:
        return MachineStatus(running=False, busy=up_is_locked(), logs=logs)
    schedules, store_error = _schedules(state) if answers(state.url, BUSY_SECONDS) else ([], None)
    return MachineStatus(
        running=True,
        busy=False,
        logs=logs,
        pid=state.pid,
        started=datetime.fromisoformat(state.started) if state.started else None,
        services=[_service_status(service) for service in state.services],
        schedules=schedules,
        store_error=store_error,
    )


def _service_status(service: Service) -> ServiceStatus:
    return ServiceStatus(
        name=service.name,
        pid=command_pid(service.pid),
        address=service.address,
        answers=answers(service.address, BUSY_SECONDS) if service.address else None,
        log=service.log,
    )


def _schedules(state: UpState) -> tuple[list[ScheduleStatus], str | None]:
    """Return the schedules, and the reason why the tracking store cannot be read. The reason is None if it can be read.

    The results are read from the tracking store of `kd up`, not from the store of the current working folder.
    """
    with (
        environment_variables({"MLFLOW_TRACKING_URI": state.store} if state.store else {}),
        schedule_client() as client,
    ):
        error = _store_error()
        statuses = [_schedule_status(client, each, with_results=error is None) for each in deployments(client)]
    return statuses, error


def _store_error() -> str | None:
    if "MLFLOW_TRACKING_URI" not in os.environ:
        return "the address of the tracking store contains a password. Set MLFLOW_TRACKING_URI as for kd up"
    try:
        tracking.configure()
    except UnavailableError as error:
        return str(error)
    return None


def _schedule_status(
    client: SyncPrefectClient, deployment: DeploymentResponse, *, with_results: bool
) -> ScheduleStatus:
    verdict, champion = _results(deployment.name) if with_results else (None, None)
    return ScheduleStatus(
        **scheduled_experiment(deployment).model_dump(),
        next_run=_next_run(client, deployment.id),
        last_run=_last_run(client, deployment.id),
        verdict=verdict,
        champion=champion,
    )


def _next_run(client: SyncPrefectClient, deployment_id: UUID) -> datetime | None:
    planned = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        ),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=1,
    )
    return planned[0].next_scheduled_start_time if planned else None


def _last_run(client: SyncPrefectClient, deployment_id: UUID) -> LastRun | None:
    started = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            start_time=FlowRunFilterStartTime(is_null_=False),
            state=FlowRunFilterState(name=FlowRunFilterStateName(not_any_=[SKIPPED])),  # they have a start time too
        ),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        sort=FlowRunSort.START_TIME_DESC,
        limit=1,
    )
    if not started:
        return None
    (run,) = started
    return LastRun(
        name=run.name,
        state=run.state_name or "",
        message=run.state.message if run.state else None,
        started=run.start_time,
        ended=run.end_time,
    )


def _results(experiment: str) -> tuple[str | None, str | None]:
    """Return the verdict of the latest comparison or generation of an experiment, and the champion of its model."""
    if tracking.is_new(experiment):
        return None, None
    runs = [run for kind in tracking.PARENTS for run in tracking.runs(experiment, kind, limit=1)]
    if not runs:
        return None, None
    latest = max(runs, key=lambda run: run.created)
    model = latest.params.get("promote.model")
    champion = tracking.champion(model) if model else None
    verdict = latest.tags.get(Tag.VERDICT) or f"none; the {latest.kind} is {latest.status}"
    return verdict, f"{champion.model}/{champion.version}" if champion else None
