"""Functions that end Prefect flow runs whose process was killed. Without them, such runs would stay Running for ever.

A flow run sends heartbeats. If the heartbeats stop, an automation of Prefect's server marks the flow run as Crashed.
This works even if no kdflow command is running. If the server was down when the heartbeats stopped, `end_dead_runs`
marks the flow run later.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import Cancelled, Crashed

from flows.services.prefect_client import persistent_client
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.tracking.tags import Tag

AUTOMATION = "kdflow: mark flow runs without heartbeats as Crashed"
HEARTBEAT_SECONDS = 30  # interval of the heartbeats, the shortest that Prefect allows
SILENT_SECONDS = 90  # a flow run that sends no heartbeat for this time is dead
NO_HEARTBEAT = f"no heartbeat for {SILENT_SECONDS} s: the process of the flow run was killed"
CLOSING_SECONDS = 60  # time that a flow run may take to end after its MLflow run has ended
PAGE = 200  # the largest number of flow runs that Prefect returns at once


@dataclass(frozen=True)
class DeadRun:
    """A flow run that Prefect reports as Running although its process has ended.

    Attributes:
        run: MLflow run of the flow run. If the process ended before the MLflow run began, the value is None.
    """

    flow_run: FlowRun
    run: tracking.Run | None

    def __str__(self) -> str:
        return f"{self.flow_run.name} ({self.flow_run.id})"


def prepare_automation(client: SyncPrefectClient) -> None:
    """Create the automation that marks flow runs without heartbeats as Crashed. If it exists, do nothing."""
    if client.read_automations_by_name(AUTOMATION):
        return
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    heartbeat = "prefect.flow-run.heartbeat"
    client.create_automation(
        AutomationCore(
            name=AUTOMATION,
            trigger=EventTrigger(
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                for_each={"prefect.resource.id"},
                after={heartbeat},
                expect={heartbeat, *ends},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=SILENT_SECONDS),
            ),
            actions=[
                ChangeFlowRunState(
                    name="Crashed",
                    state=StateType.CRASHED,
                    message=NO_HEARTBEAT,
                    force=False,
                )
            ],
        )
    )


def dead_runs(client: SyncPrefectClient) -> list[DeadRun]:
    """Return the flow runs that Prefect reports as Running although their process has ended.

    A process counts as ended if it was on this machine and no longer exists. It also counts as ended if the flow run's
    MLflow run has ended and the flow run did not end within a minute. Flow runs that record in another MLflow store
    are left out.
    """
    pairs = [(flow_run, tracking.find_by_flow_run(str(flow_run.id))) for flow_run in _running(client)]
    return [DeadRun(flow_run, run) for flow_run, run in pairs if _is_dead(flow_run, run)]


def mend_flow_runs(*, dry_run: bool = False) -> list[str]:
    """End the dead flow runs of the persistent Prefect server. Without a persistent server, do nothing.

    Args:
        dry_run: Whether to only report the flow runs that would be ended.

    Returns:
        One line for each flow run.
    """
    with persistent_client() as client:
        if client is None:
            return []
        tracking.configure()
        dead = dead_runs(client)
        if not dry_run:
            end_dead_runs(client, dead)
    return [f"{'would end' if dry_run else 'ended'} the Prefect run {each}: its process has ended" for each in dead]


def end_dead_runs(client: SyncPrefectClient, dead: Sequence[DeadRun]) -> None:
    """Mark each dead flow run as Crashed, or as Cancelled if somebody cancelled it."""
    for each in dead:
        state = Cancelled if each.run and Tag.CANCEL in each.run.tags else Crashed
        message = "the process of the flow run has ended"
        message += f", see MLflow run {each.run.run_id}" if each.run else " before its MLflow run began"
        client.set_flow_run_state(each.flow_run.id, state(message=message), force=True)


def _running(client: SyncPrefectClient) -> Iterator[FlowRun]:
    active = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING]))
    offset, page = 0, [*client.read_flow_runs(flow_run_filter=FlowRunFilter(state=active), limit=PAGE)]
    while page:
        yield from page
        offset += PAGE
        page = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=active), limit=PAGE, offset=offset)


def _is_dead(flow_run: FlowRun, run: tracking.Run | None) -> bool:
    if run is None:
        return tracking.is_flow_run_dead(flow_run.id)
    if run.status == RunStatus.RUNNING:
        return tracking.is_dead(run.tags)
    return run.end is not None and time.time() - run.end / 1000 > CLOSING_SECONDS
