"""Flow runs that have not begun are cancelled in Prefect. tests/faults/test_cancel.py cancels running commands."""

from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Completed, Pending, Running, Scheduled, State

from flows.services.waiting_runs import cancel_waiting
from tasks import tracking


@flow
def nothing() -> None:
    pass


@pytest.mark.usefixtures("prefect_server")
def test_only_runs_of_this_name_that_have_not_begun_are_cancelled() -> None:
    states: list[tuple[str, State[None], str]] = [
        ("nightly", Scheduled(), "Cancelled"),
        ("nightly", Pending(), "Cancelled"),
        ("nightly", Running(), "Running"),
        ("nightly", Completed(), "Completed"),
        ("nightly-2", Scheduled(), "Scheduled"),
    ]
    with get_client(sync_client=True) as client:
        runs = [client.create_flow_run(nothing, name=name, state=state).id for name, state, _ in states]
        assert cancel_waiting("nightly")
        found = [client.read_flow_run(run).state for run in runs]
        assert [state and state.name for state in found] == [expected for _, _, expected in states]
        message = found[0] and found[0].message
        assert message
        assert message.startswith(f"cancelled by {tracking.requester().partition(' at ')[0]} at ")
    assert not cancel_waiting("nightly")
    assert not cancel_waiting("night")


def test_without_a_server_nothing_is_cancelled(no_server: Path) -> None:
    assert not cancel_waiting("nightly")
