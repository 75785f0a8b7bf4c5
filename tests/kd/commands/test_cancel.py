"""`kd cancel` of a run that is not running. tests/faults/test_cancel.py cancels running commands."""

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from kd.exit_codes import USAGE
from tests.conftest import Here, Recorded


def test_a_run_that_has_ended_is_refused_in_one_line(kd_here: Here, recorded: Recorded) -> None:
    code, out, error = kd_here("cancel", recorded.first[:12])
    assert (code, out) == (USAGE, "")
    assert error == f"kd: error: run small ({recorded.first}) is not running: its status is FINISHED\n"


def test_an_unknown_run_is_refused_in_one_line(kd_here: Here, recorded: Recorded) -> None:
    code, out, error = kd_here("cancel", "smal")
    assert (code, out) == (USAGE, "")
    assert error == "kd: error: run 'smal' is not in the tracking store; did you mean 'small'?\n"


@flow
def nothing() -> None:
    pass


def test_a_flow_run_that_has_not_begun_is_cancelled_in_prefect(kd_here: Here, recorded: Recorded) -> None:
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(nothing, name="waiting-run", state=Scheduled())
        code, _, error = kd_here("cancel", "waiting-run")
        assert (code, error) == (0, "cancelled waiting-run, which had not begun\n")
        state = client.read_flow_run(flow_run.id).state
    assert state is not None
    assert (state.name, (state.message or "")[:13]) == ("Cancelled", "cancelled by ")
    assert kd_here("cancel", "waiting-run")[0] == USAGE
