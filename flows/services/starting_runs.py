"""A function that finds comparisons and generations that prepare their data. They have no MLflow run yet."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks import tracking

COMPARISON, GENERATION = "distill", "generate"  # the names of the flows


def starting_runs(client: SyncPrefectClient) -> list[str]:
    """Return the names of the flow runs of comparisons and generations without an MLflow run, newest first.

    Flow runs whose process was killed are left out.
    """
    comparisons = FlowFilter(name=FlowFilterName(any_=[COMPARISON, GENERATION]))
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    flow_runs = client.read_flow_runs(
        flow_filter=comparisons, flow_run_filter=running, sort=FlowRunSort.START_TIME_DESC
    )
    alive = [each for each in flow_runs if not tracking.is_flow_run_dead(each.id)]
    return [each.name for each in alive if tracking.find_by_flow_run(str(each.id)) is None]
