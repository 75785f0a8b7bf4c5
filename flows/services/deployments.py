"""Functions that list, pause, resume, delete and start schedules. A schedule is a Prefect deployment.

This module does not import the flow, so that `kd status` starts quickly.
"""

import contextlib
from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import DeploymentSort
from pydantic import BaseModel

from flows.services.prefect_client import has_persistent_server
from flows.services.prefect_server import running_server
from flows.services.schedule_records import delete_record, read_record
from flows.services.work_pool import SCHEDULED
from kdmodels.errors import UnavailableError, UserError, allowed

ACTIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
PAGE = 200  # the largest number of deployments that Prefect returns at once


class ScheduledExperiment(BaseModel):
    """A scheduled experiment.

    Attributes:
        name: Name of the experiment.
        cron: Cron expression. Either `cron` or `every` is set.
        timezone: Time zone of `cron`.
        every: Interval in seconds.
        active: Whether runs are started.
        file: Path of the experiment file. The runs use a copy, made when the experiment was scheduled.
        file_changed: Whether the file was changed or deleted since the experiment was scheduled.
    """

    name: str
    cron: str | None
    timezone: str | None
    every: int | None
    active: bool
    file: str | None = None
    file_changed: bool | None = None

    @property
    def when(self) -> str:
        """The times of the runs, e.g. "0 3 * * * UTC" or "every 3600 s"."""
        return f"every {self.every} s" if self.every else f"{self.cron} {self.timezone or 'UTC'}"

    @property
    def file_state(self) -> str | None:
        """The path of the experiment file, with a note if the file was changed or deleted."""
        return f"{self.file} (changed since)" if self.file_changed else self.file


def list_schedules() -> list[ScheduledExperiment]:
    """Return the scheduled experiments, sorted by name."""
    with schedule_client() as client:
        return [scheduled_experiment(deployment) for deployment in deployments(client)]


def pause_schedule(name: str) -> str:
    """Start no more runs of a schedule until `resume_schedule` is called. A run in progress continues.

    Returns:
        One line that says what was done.

    Raises:
        UserError: No schedule has this name.
    """
    with schedule_client() as client:
        client.pause_deployment(_find(client, name).id)
    return f"paused the schedule of {name}"


def resume_schedule(name: str) -> str:
    """Start runs of a paused schedule again. Runs that were due during the pause are skipped.

    Returns:
        One line that says what was done.

    Raises:
        UserError: No schedule has this name.
    """
    with schedule_client() as client:
        client.resume_deployment(_find(client, name).id)
    return f"resumed the schedule of {name}"


def delete_schedule(name: str) -> str:
    """Delete the schedule of an experiment and the planned runs of the schedule.

    A schedule is not deleted during one of its runs. Prefect would delete the schedule's concurrency limit too, and
    could not record the end of a run that holds a slot of this limit.

    Returns:
        One line that says what was done.

    Raises:
        UserError: No schedule has this name, or a run of the schedule is in progress.
    """
    with schedule_client() as client:
        deployment = _find(client, name)
        if active := _active_runs(client, deployment):
            raise UserError(
                f"--delete {name}: the run {active[0].name} is in progress. Allowed: kd schedule --pause {name}, and "
                f"--delete when the run has ended, by itself or by kd cancel {name}"
            )
        client.delete_deployment(deployment.id)
    delete_record(deployment.id)
    return f"deleted the schedule of {name}"


def run_now(name: str) -> str:
    """Start a run of a schedule as soon as no other run is in progress.

    Returns:
        One line with the name of the run in Prefect.

    Raises:
        UserError: No schedule has this name, or no `kd up` serves schedules.
    """
    if not has_persistent_server():
        raise UnavailableError(f"--run-now {name}: no kd up serves schedules. Start it with kd up --detach")
    with schedule_client() as client:
        run: FlowRun = client.create_flow_run_from_deployment(_find(client, name).id)
    return f"requested a run of {name}: {run.name}. kd status shows its state"


def deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return the deployments that `kd schedule` created, sorted by name."""
    found = client.read_deployments(limit=PAGE, sort=DeploymentSort.NAME_ASC)
    return [deployment for deployment in found if deployment.entrypoint in SCHEDULED]


def scheduled_experiment(deployment: DeploymentResponse) -> ScheduledExperiment:
    """Return the description of a deployment that `kd schedule` created."""
    schedule = deployment.schedules[0].schedule if deployment.schedules else None
    record = read_record(deployment.id)
    return ScheduledExperiment(
        name=deployment.name,
        cron=schedule.cron if isinstance(schedule, CronSchedule) else None,
        timezone=schedule.timezone if isinstance(schedule, CronSchedule) else None,
        every=int(schedule.interval.total_seconds()) if isinstance(schedule, IntervalSchedule) else None,
        active=bool(deployment.schedules) and deployment.schedules[0].active and not deployment.paused,
        file=record.file if record else None,
        file_changed=record.file_changed() if record else None,
    )


def _active_runs(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[FlowRun]:
    """Return the runs of a schedule that hold a slot of its concurrency limit."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ACTIVE))),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
    )


@contextlib.contextmanager
def schedule_client() -> Iterator[SyncPrefectClient]:
    """Provide a client of the Prefect server that is in use."""
    with running_server() as server:
        server.wait_ready()
        with get_client(sync_client=True) as client:
            yield client


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    by_name = {deployment.name: deployment for deployment in deployments(client)}
    if name not in by_name:
        raise UserError(f"no schedule {name!r}. {allowed(name, by_name)}")
    return by_name[name]
