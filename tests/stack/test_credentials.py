"""Wrong, missing and expired credentials: one clear line, and no secret in it."""

import re
import secrets
from collections.abc import Callable

import pytest
import yaml

from tests.stack.clients import SMALL, Client
from tests.stack.processes import Stack

pytestmark = pytest.mark.stack
WRONG = "a-wrong-password"
COMMAND = ("run", "digits", "--quiet")


def error_of(client: Client, **environment: str) -> str:
    """Run a command that must fail, and return its only line about an error."""
    done = client.kd(*COMMAND, **environment)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("kd: error: ")]
    assert len(errors) == 1, done.stderr
    assert not [value for name, value in environment.items() if "PASSWORD" in name and value and value in done.stderr]
    return errors[0]


@pytest.mark.parametrize("password", [WRONG, ""])
def test_mlflow_refuses_a_wrong_or_missing_password(ann: Client, password: str) -> None:
    error = error_of(ann, MLFLOW_TRACKING_PASSWORD=password)
    assert "the MLflow server at 'http://127.0.0.1:" in error
    assert "refused us (HTTP 401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in error


@pytest.mark.parametrize("auth", [f"kdflow:{WRONG}", ""])
def test_prefect_refuses_a_wrong_or_missing_password(ann: Client, auth: str) -> None:
    error = error_of(ann, PREFECT_API_AUTH_STRING=auth)
    assert "refused us (HTTP 401); set PREFECT_API_AUTH_STRING to its user:password" in error


def test_a_password_that_changes_takes_effect_at_once(admin: Client, new_member: Callable[[str], Client]) -> None:
    eve = new_member("eve")
    assert eve.kd("list").returncode == 0  # the server now remembers the old password
    admin.ask_mlflow("/users/update-password", {"username": "eve", "password": secrets.token_urlsafe(16)}, "PATCH")
    assert "refused us (HTTP 401)" in error_of(eve)


def test_a_login_that_ends_during_a_run_ends_the_run_in_one_line(
    admin: Client, new_member: Callable[[str], Client]
) -> None:
    mallory = new_member("mallory")
    teacher = {"network": {"mlp": [64]}, "epochs": 400}
    (mallory.folder / "long.yaml").write_text(yaml.safe_dump(SMALL | {"name": "mallory", "teacher": teacher}))
    process = mallory.start("run", "long.yaml", "--quiet")
    while not mallory.runs("tags.kd.kind = 'teacher' and attributes.status = 'RUNNING'"):
        assert process.poll() is None
    admin.ask_mlflow("/users/delete", {"username": "mallory"}, "DELETE")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    (error,) = [line for line in stderr.splitlines() if line.startswith("kd: error: ")]
    assert "the MLflow server at 'http://127.0.0.1:" in error


def test_without_the_key_the_s3_store_refuses_and_mlflow_says_so(stack: Stack, ann: Client) -> None:
    """The keys are those of the server. A client learns that the server cannot write files."""
    right = stack.settings["STACK_S3_SECRET_KEY"]
    stack.stop("mlflow")
    stack.settings["STACK_S3_SECRET_KEY"] = WRONG
    try:
        bucket = stack.run("bucket", "python -P -m flows.services.bucket create")
        assert bucket.returncode == 1
        assert bucket.stderr.startswith("kdflow: error: bucket s3://kdflow at http://127.0.0.1:")
        assert bucket.stderr.count("\n") == 1
        stack.start("mlflow")
        error = error_of(ann, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
        assert re.search(r"can't read or write files \(500 Server Error\)|to a request for a file", error), error
        assert error.endswith("its log says why")
        assert WRONG not in stack.running["mlflow"].log.read_text()
    finally:
        stack.stop("mlflow")
        stack.settings["STACK_S3_SECRET_KEY"] = right
        stack.start("mlflow")


@pytest.mark.parametrize(
    ("service", "setting"),
    [("mlflow", "STACK_MLFLOW_DATABASE_PASSWORD"), ("prefect", "STACK_PREFECT_DATABASE_PASSWORD")],
)
def test_without_the_password_postgresql_refuses_and_the_service_says_so(
    stack: Stack, service: str, setting: str
) -> None:
    right = stack.settings[setting]
    stack.stop(service)
    log = stack.folder / "logs" / f"{service}.log"
    before = len(log.read_text())
    stack.settings[setting] = WRONG
    try:
        with pytest.raises(AssertionError, match=rf"{service} ended with exit code"):
            stack.start(service)
        assert f'password authentication failed for user "{service}"' in log.read_text()[before:]
        assert WRONG not in log.read_text()
    finally:
        stack.running.pop(service, None)
        stack.settings[setting] = right
        stack.start(service)
