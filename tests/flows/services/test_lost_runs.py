"""Active runs of the work pool end in Prefect when `kd up` starts."""

from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Cancelling, Pending, Running, State

from flows.services.lost_runs import MESSAGE, end_lost_runs
from flows.services.prefect_internals.client import refresh_settings
from flows.services.schedules import ONE_AT_A_TIME
from flows.services.work_pool import POOL, prepare_pool


@flow
def nothing() -> None:
    pass


def active_run(client: SyncPrefectClient, deployment: UUID, *states: State[None]) -> UUID:
    run = client.create_flow_run_from_deployment(deployment)
    for state in states:
        client.set_flow_run_state(run.id, state)
    return run.id


@pytest.mark.usefixtures("prefect_server")
def test_active_runs_end_and_release_their_slots() -> None:
    refresh_settings()
    with get_client(sync_client=True) as client:
        prepare_pool(client)
        flow_id = client.create_flow(nothing)
        deployments = [
            client.create_deployment(
                flow_id,
                f"lost-{number}",
                work_pool_name=POOL,
                concurrency_limit=1,
                concurrency_options=ONE_AT_A_TIME,
            )
            for number in range(4)
        ]
        waiting = active_run(client, deployments[0])
        lost = [
            active_run(client, deployments[1], Pending()),
            active_run(client, deployments[2], Pending(), Running()),
            active_run(client, deployments[3], Pending(), Running(), Cancelling()),
        ]
        end_lost_runs(client)
        states = [client.read_flow_run(run).state for run in lost]
        assert [state and (state.name, state.message) for state in states] == [
            ("Crashed", MESSAGE),
            ("Crashed", MESSAGE),
            ("Cancelled", MESSAGE),
        ]
        still_waiting = client.read_flow_run(waiting).state
        assert still_waiting is not None
        assert still_waiting.is_scheduled()
        for deployment in deployments:
            limit = client.read_deployment(deployment).global_concurrency_limit
            assert limit is not None
            assert limit.active_slots == 0
            client.delete_deployment(deployment)
