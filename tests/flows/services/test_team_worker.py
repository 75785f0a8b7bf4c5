"""What a team's worker does with the runs that its previous process left. tests/stack kills a worker."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelling, Completed, Crashed, Running

from flows.distill import distill
from flows.services.team_worker import MOST_ATTEMPTS, retry_unfinished, run_worker
from kdmodels.errors import UsageError


@pytest.fixture
def unfinished(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide the folder in which a worker of this test remembers its runs."""
    assert prefect_server
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    folder = tmp_path / "kdflow-unfinished"
    folder.mkdir(mode=0o700)
    return folder


def new_run(client: SyncPrefectClient, unfinished: Path, state: State) -> UUID:
    run = client.create_flow_run(distill, parameters={"experiment": None}, name="nightly", state=state)
    (unfinished / str(run.id)).touch()
    return run.id


@pytest.mark.parametrize("state", [Running(), Crashed()])
def test_an_interrupted_run_is_scheduled_again(unfinished: Path, state: State) -> None:
    with get_client(sync_client=True) as client:
        run = new_run(client, unfinished, state)
        assert retry_unfinished(client) == ["nightly"]
        retried = client.read_flow_run(run).state
    assert retried
    assert retried.name == "AwaitingRetry"
    assert not list(unfinished.iterdir())


@pytest.mark.parametrize(("state", "name"), [(Completed(), "Completed"), (Cancelling(), "Cancelled")])
def test_a_run_that_ended_or_is_being_cancelled_is_not_scheduled_again(
    unfinished: Path, state: State, name: str
) -> None:
    with get_client(sync_client=True) as client:
        run = new_run(client, unfinished, state)
        assert retry_unfinished(client) == []
        ended = client.read_flow_run(run).state
    assert ended
    assert ended.name == name


def test_a_run_is_tried_a_few_times_only(unfinished: Path) -> None:
    with get_client(sync_client=True) as client:
        run = new_run(client, unfinished, Running())
        for _ in range(MOST_ATTEMPTS - 1):
            assert retry_unfinished(client) == ["nightly"]
            client.set_flow_run_state(run, Running(), force=True)
            (unfinished / str(run)).touch()
        assert retry_unfinished(client) == []
        crashed = client.read_flow_run(run).state
    assert crashed
    assert crashed.is_crashed()


def test_a_deleted_run_is_forgotten(unfinished: Path) -> None:
    (unfinished / str(uuid4())).touch()
    with get_client(sync_client=True) as client:
        assert retry_unfinished(client) == []
    assert not list(unfinished.iterdir())


@pytest.mark.usefixtures("no_server")
def test_a_worker_needs_a_server() -> None:
    with pytest.raises(UsageError, match=r"^PREFECT_API_URL: expected the address of the team's Prefect server"):
        run_worker()
