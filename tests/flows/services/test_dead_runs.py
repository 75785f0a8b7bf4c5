"""Flow runs of killed processes are found and ended. tests/faults/test_nightly.py lets the automation end one."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Running

from flows.services.dead_runs import AUTOMATION, CLOSING_SECONDS, dead_runs, mend_flow_runs, prepare_automation
from flows.services.doctor import check
from tasks import tracking

CHILD = """
import os, signal, sys
from tasks import tracking
tracking.configure()
tracking.start("small", "killed", "comparison", tags={"kd.prefect_flow_run": sys.argv[1]})
os.kill(os.getpid(), signal.SIGKILL)
"""


@flow
def nothing() -> None:
    pass


@pytest.fixture
def client(
    prefect_server: str, new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SyncPrefectClient]:
    """Provide a client of the tests' server, and an empty MLflow store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    with get_client(sync_client=True) as client:
        yield client


def record(client: SyncPrefectClient, name: str, ended_before: float | None = None, **tags: str) -> UUID:
    """Record a flow run in Prefect and its comparison in MLflow, which is running or ended so many seconds ago."""
    id_ = client.create_flow_run(nothing, name=name, state=Running()).id
    tags = {"kd.kind": "comparison", "kd.prefect_flow_run": str(id_)} | tags
    now = time.time()
    run = MlflowClient().create_run(tracking.experiment_id("small"), int(1000 * (now - 600)), tags, name)
    if ended_before is not None:
        MlflowClient().set_terminated(run.info.run_id, "KILLED", end_time=int(1000 * (now - ended_before)))
    return id_


@pytest.mark.fault
def test_the_flow_runs_of_ended_processes_are_ended(client: SyncPrefectClient) -> None:
    long_ago, tag = CLOSING_SECONDS + 60.0, {"kd.cancel": "ann"}
    expected = {
        record(client, "running"): "Running",
        record(client, "about-to-end", 1.0): "Running",
        record(client, "ended", long_ago): "Crashed",
        record(client, "cancelled", long_ago, **tag): "Cancelled",
        client.create_flow_run(nothing, name="of another store", state=Running()).id: "Running",
    }
    killed = client.create_flow_run(nothing, name="killed", state=Running()).id
    subprocess.run([sys.executable, "-c", CHILD, str(killed)], check=False)
    dead = {each.flow_run.name for each in dead_runs(client)}
    assert dead == {"ended", "cancelled", "killed"}
    found = check("Prefect runs")
    assert (found.ok, found.remedy) == (None, "kd doctor --fix")
    assert f"killed ({killed})" in found.detail
    names = {line.split(" (")[0].removeprefix("would end the Prefect run ") for line in mend_flow_runs(dry_run=True)}
    assert names == dead
    assert client.read_flow_run(killed).state_name == "Running"
    assert f"ended the Prefect run killed ({killed}): its process has ended" in mend_flow_runs()
    states = {id_: client.read_flow_run(id_).state_name for id_ in [*expected, killed]}
    assert states == expected | {killed: "Crashed"}
    assert mend_flow_runs() == []
    assert check("Prefect runs").detail == "none"


def test_the_automation_is_created_once(client: SyncPrefectClient) -> None:
    prepare_automation(client)
    prepare_automation(client)
    (automation,) = client.read_automations_by_name(AUTOMATION)
    assert automation.enabled


@pytest.mark.usefixtures("no_server")
def test_without_a_server_there_is_nothing_to_mend() -> None:
    assert mend_flow_runs() == []
