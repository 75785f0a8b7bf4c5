"""Comparisons that prepare their data: flow runs of `distill` that run and have no MLflow run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Pending, Running

from flows.distill import distill
from flows.services.starting_runs import starting_comparisons
from tasks import tracking
from tasks.tracking.tags import Tag


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
        assert starting_comparisons(client) == ["starting"]
        tracking.start("small", "small", "comparison", tags={Tag.PREFECT_FLOW_RUN: str(starting.id)})
        assert starting_comparisons(client) == []
        for flow_run in (starting, recorded, *others):  # other tests use the same server
            client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
