"""A function that finds comparisons that prepare their data. Such a comparison has no MLflow run yet."""

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

COMPARISON = "distill"  # the name of the flow


def starting_comparisons(client: SyncPrefectClient) -> list[str]:
    """Return the names of the flow runs of comparisons that run and have no run in the MLflow store, newest first."""
    comparisons = FlowFilter(name=FlowFilterName(any_=[COMPARISON]))
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    flow_runs = client.read_flow_runs(
        flow_filter=comparisons, flow_run_filter=running, sort=FlowRunSort.START_TIME_DESC
    )
    return [each.name for each in flow_runs if tracking.find_by_flow_run(str(each.id)) is None]
