"""Which Prefect server outlives a command, and whether a client of this server is provided."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.services.prefect_client import persistent_client
from flows.services.prefect_internals.client import refresh_settings
from flows.services.prefect_server import bind
from flows.services.up_state import UpState, announced, only_up


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Change environment variables, and let Prefect read the session's variables again after the test."""
    yield monkeypatch
    monkeypatch.undo()
    refresh_settings()


def test_a_configured_server_gets_a_client(prefect_server: str) -> None:
    with persistent_client() as client:
        assert client is not None
        assert str(client.api_url).rstrip("/") == prefect_server
        assert client.api_healthcheck() is None


def test_the_server_of_kd_up_gets_a_client(prefect_server: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    state = UpState(url=prefect_server, pid=os.getpid(), auth=os.environ["PREFECT_API_AUTH_STRING"])
    patch.setenv("PREFECT_HOME", str(tmp_path))
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        patch.delenv(name)
    with only_up(), announced(state), persistent_client() as client:
        assert client is not None
        assert client.read_flow_runs(limit=1) is not None  # an answer to a request with the password


def test_without_a_server_there_is_no_client_and_no_server_is_started(no_server: Path) -> None:
    with persistent_client() as client:
        assert client is None
    assert not (no_server / "prefect.db").exists()


def test_a_server_that_does_not_answer_gets_no_client(no_server: Path, patch: pytest.MonkeyPatch) -> None:
    with bind(0) as unused:
        patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/api")
        with persistent_client() as client:
            assert client is None


def test_a_server_that_refuses_the_password_gets_no_client(prefect_server: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PREFECT_API_AUTH_STRING", "kdflow:wrong")
    with persistent_client() as client:
        assert client is None
