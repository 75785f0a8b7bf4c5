"""`kd doctor` against the stack."""

import json
from importlib.metadata import version
from typing import Any

import pytest

from tests.stack.clients import Client
from tests.stack.processes import Stack

pytestmark = pytest.mark.stack


def checks(client: Client, **environment: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(client.kd("doctor", "--json", **environment).stdout)}


def test_every_part_is_in_order(ann: Client) -> None:
    found = checks(ann)
    store = found["tracking store"]
    assert store["ok"] is True, store
    assert f"answers, MLflow {version('mlflow')}, clock " in store["detail"]
    assert store["detail"].endswith(" s, runs and files can be written")
    assert found["Prefect server"]["ok"] is True, found["Prefect server"]
    assert found["Prefect worker"]["ok"] is True
    assert found["Prefect worker"]["detail"].startswith("kdflow on ")


def test_a_second_member_may_check_too(admin: Client) -> None:
    assert checks(admin)["tracking store"]["ok"] is True


def test_wrong_logins_are_reported(ann: Client) -> None:
    found = checks(ann, MLFLOW_TRACKING_PASSWORD="wrong-password", PREFECT_API_AUTH_STRING="kdflow:wrong-password")
    for name in ("tracking store", "Prefect server"):
        assert found[name]["ok"] is False
        assert "refused us (HTTP 401)" in found[name]["detail"]


def test_servers_that_do_not_answer_are_reported(ann: Client) -> None:
    address = "http://127.0.0.1:9"
    found = checks(ann, MLFLOW_TRACKING_URI=address, PREFECT_API_URL=f"{address}/api")
    assert found["tracking store"]["ok"] is False
    assert "no answer from the MLflow server" in found["tracking store"]["detail"]
    assert found["Prefect server"]["ok"] is False


def test_a_run_that_no_worker_takes_is_reported(stack: Stack, ann: Client) -> None:
    assert ann.kd("schedule", "digits", "--cron", "0 3 1 1 *").returncode == 0
    deployment = ann.ask_prefect("/deployments/name/distill/digits")["id"]
    stack.stop("worker")
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2026-01-01T00:00:00Z"}}
    ann.ask_prefect(f"/deployments/{deployment}/create_flow_run", {"name": "forgotten", "state": state})
    worker = checks(ann)["Prefect worker"]
    assert worker["ok"] is None
    assert "waiting for over a minute: forgotten" in worker["detail"]
    assert ann.kd("schedule", "--delete", "digits").returncode == 0
    stack.start("worker")
