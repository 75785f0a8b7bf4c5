"""The MLflow or the Prefect server stops during training, temporarily or permanently."""

import time
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Workspace, single_error
from tests.faults.servers import Server

TRAINING = ("tasks.training_runs:EpochLog.__call__", "50")
KILL = "kill -KILL -$(cat server.pid)"


@pytest.mark.fault
def test_an_mlflow_server_stopped_for_half_a_minute_is_waited_for(
    workspace: Workspace, mlflow_server: Server, expected: dict[str, Any]
) -> None:
    process = workspace.start(*TRAINING, KILL, "run", "small.yaml", by=AT_CALL)
    while mlflow_server.process.poll() is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(30)
    mlflow_server.start()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_a_run_ended_by_a_stopped_mlflow_server_resumes_when_it_is_back(
    workspace: Workspace, mlflow_server: Server, expected: dict[str, Any]
) -> None:
    """The user sets the time to wait to 6 s instead of a minute."""
    failed = workspace.kd(*TRAINING, KILL, "run", "small.yaml", by=AT_CALL, MLFLOW_HTTP_REQUEST_MAX_RETRIES="3")
    assert failed.returncode == 1
    url = workspace.environment["MLFLOW_TRACKING_URI"]
    assert single_error(failed.stderr).startswith(f"kd: error: no answer from the MLflow server at '{url}'")
    mlflow_server.start()
    done = workspace.kd("run", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert "hard-labels: training, 40 epochs; run " in done.stderr
    assert " was interrupted " in done.stderr
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_a_run_ended_by_a_stopped_prefect_server_resumes_with_another(
    workspace: Workspace, own_prefect: Server, prefect_server: str, expected: dict[str, Any]
) -> None:
    ended = workspace.kd(*TRAINING, KILL, "run", "small.yaml", by=AT_CALL)
    url = workspace.environment["PREFECT_API_URL"]
    assert ended.returncode == 1
    assert single_error(ended.stderr).startswith(f"kd: error: no answer from the Prefect server at {url}")
    done = workspace.kd("run", "small.yaml", "--quiet", PREFECT_API_URL=prefect_server)
    assert done.returncode == 0, done.stderr
    assert workspace.outcome() == expected
