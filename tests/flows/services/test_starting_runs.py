"""Comparisons that prepare their data: flow runs of `distill` that run and have no MLflow run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Pending, Running

from flows.distill import distill
from flows.services.dead_runs import dead_runs, end_dead_runs
from flows.services.starting_runs import starting_runs
from tasks import tracking
from tasks.tracking.tags import Tag

KILLED = """
import os, signal, sys, uuid
from tasks import tracking
tracking.configure()
with tracking.flow_run_alive(uuid.UUID(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@flow
def promote() -> None:
    pass


@pytest.mark.usefixtures("prefect_server")
def test_only_running_comparisons_without_an_mlflow_run_are_found(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    tracking.configure()
    with get_client(sync_client=True) as client:
        starting, recorded, *others = [
            client.create_flow_run(each, name=name, state=state)
            for each, name, state in [
                (distill, "starting", Running()),
                (distill, "recorded", Running()),
                (distill, "waiting", Pending()),
                (promote, "promote", Running()),
            ]
        ]
        tracking.start("small", "small", "comparison", tags={Tag.PREFECT_FLOW_RUN: str(recorded.id)})
        assert starting_runs(client) == ["starting"]
        tracking.start("small", "small", "comparison", tags={Tag.PREFECT_FLOW_RUN: str(starting.id)})
        assert starting_runs(client) == []
        for flow_run in (starting, recorded, *others):  # other tests use the same server
            client.set_flow_run_state(flow_run.id, Cancelled(), force=True)


@pytest.mark.usefixtures("prefect_server")
def test_a_flow_run_that_was_killed_while_it_prepared_its_data_is_not_found_but_ended(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    tracking.configure()
    with get_client(sync_client=True) as client:
        killed, starting = [client.create_flow_run(distill, name=name, state=Running()) for name in ("a", "b")]
        subprocess.run([sys.executable, "-c", KILLED, str(killed.id)], check=False)
        with tracking.flow_run_alive(starting.id):
            assert starting_runs(client) == ["b"]
            dead = dead_runs(client)
            assert [each.flow_run.id for each in dead] == [killed.id]
            end_dead_runs(client, dead)
        assert client.read_flow_run(killed.id).state_name == "Crashed"
        assert not list(tracking.machine_folder("runs").glob(f"{starting.id.hex}*"))
        client.set_flow_run_state(starting.id, Cancelled(), force=True)
