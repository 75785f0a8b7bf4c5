"""Fixtures for the tests of tasks."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kdmodels.errors import UserError
from tasks import tracking


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure an empty store, and return its folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    return tmp_path / "mlruns"


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server ask for a login, and use the login of the admin."""
    settings = f"default_permission = EDIT\ndatabase_uri = sqlite:///{tmp_path}/logins.db\nadmin_username = admin\n"
    (tmp_path / "login.ini").write_text(f"[mlflow]\n{settings}admin_password = password of admin\n")
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "login.ini"))
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "password of admin")


@pytest.fixture
def server(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Start a real MLflow server of an empty store, and return its address. It logs requests to server.log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        os.environ["MLFLOW_TRACKING_URI"],
        "--artifacts-destination",
        str(tmp_path / "s3"),
        *(["--app-name", "basic-auth"] if "login" in request.fixturenames else []),
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with (tmp_path / "server.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait(process)
            yield uri
        finally:
            process.terminate()


def wait(process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        with suppress(UserError):
            tracking.configure()
            return
        assert process.poll() is None, "the MLflow server died"
        time.sleep(0.5)
    raise TimeoutError("the MLflow server did not start")
