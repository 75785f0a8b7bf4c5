"""What the MLflow and Prefect servers of the stack refuse."""

import json
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest

from tests.stack.clients import Client
from tests.stack.processes import Stack

pytestmark = pytest.mark.stack


def status(client: Client, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """Send a request with the login of a client to MLflow. Return the HTTP status and the answer."""
    login = f"{client.environment['MLFLOW_TRACKING_USERNAME']}:{client.environment['MLFLOW_TRACKING_PASSWORD']}"
    names = {
        "Authorization": f"Basic {b64encode(login.encode()).decode()}",
        "Content-Type": "application/json",
    } | headers
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{client.environment['MLFLOW_TRACKING_URI']}{path}", data, names)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_mlflow_refuses_foreign_hosts_and_pages(ann: Client) -> None:
    search = "/api/2.0/mlflow/experiments/search"
    assert status(ann, search, {"max_results": 1})[0] == 200
    assert status(ann, search, {"max_results": 1}, Host="evil.example")[0] == 403
    assert status(ann, search, {"max_results": 1}, Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    "location", ["file:///etc", "/etc", "s3://kdflow/1", "mlflow-artifacts:/1", "http://127.0.0.1/"]
)
def test_a_member_cannot_choose_where_the_server_reads_files(ann: Client, location: str) -> None:
    body = {"name": f"at {location}", "artifact_location": location}
    code, answer = status(ann, "/api/2.0/mlflow/experiments/create", body)
    assert code == 400
    assert "artifact_location: expected none" in answer


@pytest.mark.parametrize("path", ["/ajax-api/3.0/mlflow/assistant/x", "/api/2.0/mlflow/webhooks", "/gateway/x"])
def test_parts_that_kdflow_does_not_use_are_not_served(ann: Client, path: str) -> None:
    assert status(ann, path) == (403, "kdflow does not serve this part of MLflow")


def test_the_worker_is_no_admin(stack: Stack, ann: Client, admin: Client) -> None:
    worker = Client(
        ann.folder,
        ann.environment
        | {"MLFLOW_TRACKING_USERNAME": "worker", "MLFLOW_TRACKING_PASSWORD": stack.settings["STACK_WORKER_PASSWORD"]},
    )
    path = "/api/2.0/mlflow/users/get?username=admin"
    assert status(worker, "/api/2.0/mlflow/experiments/search", {"max_results": 1})[0] == 200
    assert status(worker, path)[0] == 403
    assert status(admin, path)[0] == 200


def test_nothing_listens_beyond_this_machine(stack: Stack) -> None:
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = [fields[1] for fields in lines if fields[3] == "0A"]
    ports = {f"{port:04X}" for port in stack.ports.values()}
    assert {address for address in listening if address.split(":")[1] in ports} <= {
        f"0100007F:{port}" for port in ports
    }
