"""The MLflow UI without Prefect, as a real server."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.services.mlflow_server import ui
from kdmodels.errors import UserError

START_SECONDS = 120


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.fault  # takes long
def test_the_store_is_served_until_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from flows.services.mlflow_server import ui; ui({port})"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(address):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with pytest.raises(UserError, match=f"port {port} .*--port"):
            ui(port)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        ui()  # the store is itself a server
        assert f"page     {address}/#/?workflowType=machine_learning" in capsys.readouterr().err
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert address in output
    assert not answers(address)
