"""Functions that skip missed runs of schedules, so that one run catches up after a downtime.

A run is missed if it is due while `kd up` or its worker is not running, or while an earlier run of the experiment is
still in progress.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled
from prefect.types import DateTime

from flows.services.work_pool import POOL

SKIPPED = "Skipped"  # name of the state of a missed run


async def skip_missed_runs(client: PrefectClient) -> None:
    """Cancel the missed runs of each schedule, except the newest."""
    while missed := superseded(await _due_runs(client)):
        for run in missed:
            state: State[None] = Cancelled(name=SKIPPED, message="missed; a later run of this schedule catches up")
            with suppress(ObjectNotFound):  # the schedule was deleted or replaced meanwhile
                await client.set_flow_run_state(run.id, state)


def superseded(due: Iterable[FlowRun]) -> list[FlowRun]:
    """Return the due runs of schedules, except the newest due run of each schedule.

    Args:
        due: Runs that are due and have not begun, the newest first. Runs that a person requested are never returned.
    """
    deployments = set()
    older = []
    for run in due:
        if run.auto_scheduled and run.deployment_id in deployments:
            older.append(run)
        elif run.auto_scheduled:
            deployments.add(run.deployment_id)
    return older


async def _due_runs(client: PrefectClient) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=DateTime.now(UTC)),
        ),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )
