"""Passwords and tokens from the environment appear in nothing that a run writes, prints or logs."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Workspace

pytestmark = pytest.mark.fault
CANARY = "c4n4ryS3CRET"
HIDDEN = ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PREFECT_API_KEY", "HF_TOKEN")
SECRETS = dict.fromkeys(HIDDEN, CANARY)


@contextmanager
def mlflow_server(workspace: Workspace) -> Iterator[int]:
    """Serve the workspace's store without a password, and yield the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", workspace.environment["MLFLOW_TRACKING_URI"]]
    command += ["--artifacts-destination", str(workspace.folder / "artifacts")]
    with (
        (workspace.folder / "server.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            while not answers(port):
                assert process.poll() is None, (workspace.folder / "server.log").read_text()
                time.sleep(0.2)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def leaks(folder: Path) -> list[str]:
    """Return the files in a folder that contain the canary, including databases and logs."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_secrets_reach_no_store_no_cache_no_log_and_no_terminal(workspace: Workspace) -> None:
    environment = SECRETS | {"PREFECT_HOME": str(workspace.folder / "prefect"), "PREFECT_API_URL": ""}
    with mlflow_server(workspace) as port:
        environment["MLFLOW_TRACKING_URI"] = f"http://ann:{CANARY}@127.0.0.1:{port}"
        run = workspace.kd("--debug", "run", "small.yaml", "--set", "student.epochs=2", **environment)
        assert run.returncode == 0, run.stderr
        wrong = workspace.kd(
            "--debug", "run", "small.yaml", "--set", "student.network=torch:no_such_class", **environment
        )
        assert wrong.returncode == 2
        assert "Traceback" in wrong.stderr
    unreachable = workspace.kd("--debug", "list", **environment)
    assert unreachable.returncode == 1
    assert "Traceback" in unreachable.stderr
    prefect = workspace.kd("list", **environment | {"MLFLOW_TRACKING_URI": f"postgresql://ann:{CANARY}@127.0.0.1:1/x"})
    assert prefect.returncode == 1
    server = workspace.kd("run", "small.yaml", **SECRETS, PREFECT_API_URL=f"http://ann:{CANARY}@127.0.0.1:1/api")
    assert server.returncode == 1
    assert re.search(r"no Prefect server answers at http://127\.0\.0\.1:1,", server.stderr)
    for done in (run, wrong, unreachable, prefect, server):
        assert CANARY not in done.stdout + done.stderr
    assert (workspace.folder / "prefect" / "prefect.db").exists()
    assert (workspace.folder / "artifacts").exists()
    assert leaks(workspace.folder) == []
    (workspace.folder / "canary").write_text(CANARY)
    assert leaks(workspace.folder) == [str(workspace.folder / "canary")]  # the search does find the canary
