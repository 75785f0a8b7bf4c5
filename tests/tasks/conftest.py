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
def server(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
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
