"""A lock of the team keeps the processes of all machines out. Each machine has a cache of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client

from flows.services.prefect_internals.client import refresh_settings
from flows.services.prefect_server import Server, bind, start_server
from flows.services.processes import stop
from kdmodels.errors import UnavailableError
from tasks import tracking
from tasks.execution import interruption, team_locks
from tasks.execution.team_locks import limit_name, team_exclusive

HOLDER = """
import sys
from tasks.execution.team_locks import team_exclusive
with team_exclusive(sys.argv[1]):
    print("locked", flush=True)
    input()
"""
Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def machine(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use an MLflow server, which need not exist, because locks do not read it. Then delete all limits."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    refresh_settings()
    yield
    monkeypatch.undo()
    refresh_settings()
    with get_client(sync_client=True) as client:
        for name in limits():
            client.delete_global_concurrency_limit_by_name(name)


@contextmanager
def holders(folder: Path) -> Iterator[Holder]:
    started: list[subprocess.Popen[str]] = []

    def holder(machine: str, name: str = "model a", **environment: str) -> "subprocess.Popen[str]":
        """Start a process that takes a lock on a machine, prints a line and holds the lock until it gets a line."""
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, name],
            env=os.environ | {"XDG_CACHE_HOME": str(folder / machine)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield holder
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    with holders(tmp_path) as holder:
        yield holder


def wait_for_lock(process: "subprocess.Popen[str]") -> float:
    """Wait until a process holds its lock, and return the seconds of the wait."""
    began = time.monotonic()
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    return time.monotonic() - began


def limits() -> list[str]:
    with get_client(sync_client=True) as client:
        return [limit.name for limit in client.read_global_concurrency_limits()]


@pytest.mark.fault
def test_another_machine_waits_until_the_block_ends(holder: Holder) -> None:
    with team_exclusive("model a"):
        second = holder("second")
        with team_exclusive("model b"):
            assert limits() == [limit_name("model a"), limit_name("model b")]
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(8)
    wait_for_lock(second)
    second.communicate("\n")
    assert limits() == []


@pytest.mark.fault
def test_after_a_kill_the_same_machine_takes_the_lock_at_once(holder: Holder) -> None:
    killed = holder("here")
    wait_for_lock(killed)
    killed.kill()
    killed.wait()
    with team_exclusive("model a"):  # the lease of the killed process has not expired
        assert limits() == [limit_name("model a")]
    assert limits() == []


@pytest.mark.fault
def test_a_process_that_lost_its_lease_keeps_the_lock_of_the_next_process(holder: Holder) -> None:
    with team_exclusive("model a"):
        (file,) = tracking.machine_folder("locks").glob("*.lease")
        with get_client(sync_client=True) as client:
            client.release_concurrency_slots_with_lease(UUID(file.read_text()))  # as if the lease had expired
        wait_for_lock(holder("second"))
    assert limits() == [limit_name("model a")]


def test_names_that_look_alike_are_different_locks() -> None:
    assert len({limit_name(name) for name in ("model a b", "model a-b", "model 数字", "model 猫")}) == 4


@pytest.mark.fault
def test_a_stop_ends_the_wait(holder: Holder) -> None:
    wait_for_lock(holder("first"))
    interruption.stop()
    try:
        with pytest.raises(KeyboardInterrupt), team_exclusive("model a"):
            pass
    finally:
        interruption.reset()


def test_a_store_of_one_machine_needs_no_server(holder: Holder, tmp_path: Path) -> None:
    alone = holder("first", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    wait_for_lock(alone)
    assert limits() == []


def test_a_server_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_locks, "OUTAGE_SECONDS", 0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/api")
        refresh_settings()
        message = "^the Prefect server at http[^ ]+ does not give the lock kdflow-model-a-[0-9a-f]{8}: "
        with pytest.raises(UnavailableError, match=message), team_exclusive("model a"):
            pass
    assert list(tracking.machine_folder("locks").iterdir()) == []


@pytest.mark.fault
def test_a_lease_is_renewed_and_expires_after_a_kill(
    holder: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "prefect").mkdir()
    with bind(0) as listener, (tmp_path / "log").open("wb") as log:
        process, url = start_server(listener, "ann:secret", ephemeral=False, log=log)
    try:
        Server(url, process).wait_ready()
        login = {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": "ann:secret"}
        killed = holder("first", **login)
        wait_for_lock(killed)
        second = holder("second", **login)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(team_locks.LEASE_SECONDS + 30)  # the server looks for expired leases every 15 s
        killed.kill()
        assert wait_for_lock(second) < team_locks.LEASE_SECONDS + 60
    finally:
        stop(process)
