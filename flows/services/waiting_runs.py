"""A function that cancels a scheduled run that has not begun. Such a run has no MLflow run yet."""

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled

from flows.services.prefect_client import persistent_client
from tasks import tracking

WAITING = [StateType.SCHEDULED, StateType.PENDING]


def cancel_waiting(name: str) -> bool:
    """Cancel Prefect's flow runs that have this name and have not begun. Return whether there was such a run."""
    waiting = FlowRunFilter(
        name=FlowRunFilterName(any_=[name]), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=WAITING))
    )
    with persistent_client() as client:
        if client is None:
            return False
        flow_runs = client.read_flow_runs(flow_run_filter=waiting)
        for flow_run in flow_runs:
            message = f"cancelled by {tracking.requester()}"
            client.set_flow_run_state(flow_run.id, Cancelled(message=message), force=True)
    return bool(flow_runs)
