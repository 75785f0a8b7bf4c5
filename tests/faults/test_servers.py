"""The MLflow server or the Prefect server is gone in the middle of a training, for a while or for good."""

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

from flows.server import answers
from tests.faults.conftest import AT_CALL, Place, one_error

TRAINING = ("tasks.runs:EpochLog.__call__", "50")
KILL = "kill -KILL -$(cat server.pid)"


class Server:
    """A server in a group of its own, whose leader's id stands in `server.pid`; it can be killed and come back."""

    def __init__(self, command: list[str], url: str, folder: Path, environment: dict[str, str]):
        self._command, self._url, self._folder, self._environment = command, url, folder, environment
        self.start()

    def start(self) -> None:
        """Return when it answers."""
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
def mlflow_server(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One on the place's store, which the place and this process ask from now on."""
    port, store = free_port(), place.folder / "mlruns"
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--artifacts-destination", str(store),
    ]  # fmt: skip
    kept = {name: value for name, value in place.environment.items() if name != "MLFLOW_TRACKING_URI"}
    kept["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # as the tests' conftest says
    place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    server = Server(command, f"http://127.0.0.1:{port}", place.folder, kept)
    yield server
    server.kill()


@pytest.fixture
def own_prefect(place: Place, prefect_home: Path) -> Iterator[Server]:
    """A Prefect server that the place names from now on."""
    home, port = place.folder / "prefect", free_port()
    shutil.copytree(prefect_home, home)
    url = f"http://127.0.0.1:{port}/api"
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)]
    server = Server(command, url, place.folder, place.environment | {"PREFECT_HOME": str(home)})
    place.environment["PREFECT_API_URL"] = url
    yield server
    server.kill()


@pytest.mark.fault
def test_an_mlflow_server_that_is_gone_for_half_a_minute_is_waited_for(
    place: Place, mlflow_server: Server, whole: dict[str, Any]
) -> None:
    process = place.start(*TRAINING, KILL, "run", "small.yaml", by=AT_CALL)
    while mlflow_server.process.poll() is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(30)
    mlflow_server.start()
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert place.outcome() == whole


@pytest.mark.fault
def test_an_mlflow_server_that_is_gone_for_good_ends_the_run_which_goes_on_when_it_is_back(
    place: Place, mlflow_server: Server, whole: dict[str, Any]
) -> None:
    """The user's own patience of 6 s, instead of the minute."""
    failed = place.kd(*TRAINING, KILL, "run", "small.yaml", by=AT_CALL, MLFLOW_HTTP_REQUEST_MAX_RETRIES="3")
    assert failed.returncode == 1
    url = place.environment["MLFLOW_TRACKING_URI"]
    assert one_error(failed.stderr).startswith(f"kd: error: no answer from the MLflow server at '{url}'")
    mlflow_server.start()
    done = place.kd("run", "small.yaml")
    assert done.returncode == 0, done.stderr
    assert "hard-labels: training, 40 epochs; run " in done.stderr
    assert " was interrupted " in done.stderr
    assert place.outcome() == whole


@pytest.mark.fault
def test_a_prefect_server_that_is_gone_for_good_ends_the_run_which_goes_on_with_another(
    place: Place, own_prefect: Server, prefect_server: str, whole: dict[str, Any]
) -> None:
    ended = place.kd(*TRAINING, KILL, "run", "small.yaml", by=AT_CALL)
    url = place.environment["PREFECT_API_URL"]
    assert ended.returncode == 1
    assert one_error(ended.stderr).startswith(f"kd: error: no answer from the Prefect server at {url}")
    done = place.kd("run", "small.yaml", "--quiet", PREFECT_API_URL=prefect_server)
    assert done.returncode == 0, done.stderr
    assert place.outcome() == whole
