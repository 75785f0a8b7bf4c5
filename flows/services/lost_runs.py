"""A function that ends the scheduled runs of a killed `kd up` in Prefect. Their concurrency slots become free."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Crashed

from flows.services.work_pool import POOL

ACTIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
MESSAGE = "kd up ended before the run did"


def end_lost_runs(client: SyncPrefectClient) -> None:
    """Mark all active runs of the work pool as crashed or cancelled. Call this function while no worker runs.

    A run whose cancellation was requested is marked as cancelled.
    """
    active = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ACTIVE)))
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    for run in client.read_flow_runs(flow_run_filter=active, work_pool_filter=pool):
        cancelling = run.state_type == StateType.CANCELLING
        state: State[None] = Cancelled(message=MESSAGE) if cancelling else Crashed(message=MESSAGE)
        client.set_flow_run_state(run.id, state)
