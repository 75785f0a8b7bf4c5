"""The MLflow or the Prefect server stops during training, temporarily or permanently."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flows.services.prefect_health import answers
from tests.faults.conftest import AT_CALL, Workspace, single_error

TRAINING = ("tasks.training_runs:EpochLog.__call__", "50")
KILL = "kill -KILL -$(cat server.pid)"


class Server:
    """A server in its own process group, which can be killed and restarted. `server.pid` holds the group's id."""

    def __init__(self, command: list[str], url: str, folder: Path, environment: dict[str, str]):
        self._command, self._url, self._folder, self._environment = command, url, folder, environment
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (self._folder / "server.pid").write_text(str(self.process.pid))
        deadline = time.monotonic() + 120
        try:
            while not answers(self._url):
                assert self.process.poll() is None, "the server does not start"
                assert time.monotonic() < deadline
                time.sleep(0.1)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def mlflow_server(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Yield a server of the workspace's store, which the workspace and this process use from now on."""
    port, store = free_port(), workspace.folder / "mlruns"
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--artifacts-destination", str(store),
    ]  # fmt: skip
    inherited = {name: value for name, value in workspace.environment.items() if name != "MLFLOW_TRACKING_URI"}
    inherited["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # as in tests/conftest.py
    workspace.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    server = Server(command, f"http://127.0.0.1:{port}", workspace.folder, inherited)
    yield server
    server.kill()


@pytest.fixture
def own_prefect(workspace: Workspace, prefect_home: Path) -> Iterator[Server]:
    """Yield a Prefect server that the workspace uses from now on."""
    home, port = workspace.folder / "prefect", free_port()
    shutil.copytree(prefect_home, home)
    url = f"http://127.0.0.1:{port}/api"
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)]
    server = Server(command, url, workspace.folder, workspace.environment | {"PREFECT_HOME": str(home)})
    workspace.environment["PREFECT_API_URL"] = url
    yield server
    server.kill()


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
