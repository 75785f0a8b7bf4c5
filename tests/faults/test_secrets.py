"""Passwords and tokens of the environment: in nothing that a run writes, prints or logs."""

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

from tests.faults.conftest import Place

pytestmark = pytest.mark.fault
CANARY = "c4n4ryS3CRET"
HIDDEN = ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PREFECT_API_KEY", "HF_TOKEN")
SECRETS = dict.fromkeys(HIDDEN, CANARY)


@contextmanager
def mlflow_server(place: Place) -> Iterator[int]:
    """A server over the place's store, which asks for no password; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", place.environment["MLFLOW_TRACKING_URI"]]
    command += ["--artifacts-destination", str(place.folder / "artifacts")]
    with (place.folder / "server.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            while not answers(port):
                assert process.poll() is None, (place.folder / "server.log").read_text()
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
    """The files below a folder that hold the canary, databases and logs among them."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_secrets_reach_no_store_no_cache_no_log_and_no_terminal(place: Place) -> None:
    own = SECRETS | {"PREFECT_HOME": str(place.folder / "prefect"), "PREFECT_API_URL": ""}
    with mlflow_server(place) as port:
        own["MLFLOW_TRACKING_URI"] = f"http://ann:{CANARY}@127.0.0.1:{port}"
        run = place.kd("--debug", "run", "small.yaml", "--set", "student.epochs=2", **own)
        assert run.returncode == 0, run.stderr
        wrong = place.kd("--debug", "run", "small.yaml", "--set", "student.network=torch:no_such_class", **own)
        assert wrong.returncode == 2
        assert "Traceback" in wrong.stderr
    gone = place.kd("--debug", "list", **own)
    assert gone.returncode == 1
    assert "Traceback" in gone.stderr
    prefect = place.kd("list", **own | {"MLFLOW_TRACKING_URI": f"postgresql://ann:{CANARY}@127.0.0.1:1/x"})
    assert prefect.returncode == 1
    server = place.kd("run", "small.yaml", **SECRETS, PREFECT_API_URL=f"http://ann:{CANARY}@127.0.0.1:1/api")
    assert server.returncode == 1
    assert re.search(r"no Prefect server answers at http://127\.0\.0\.1:1,", server.stderr)
    for done in (run, wrong, gone, prefect, server):
        assert CANARY not in done.stdout + done.stderr
    assert (place.folder / "prefect" / "prefect.db").exists()
    assert (place.folder / "artifacts").exists()
    assert leaks(place.folder) == []
    (place.folder / "canary").write_text(CANARY)
    assert leaks(place.folder) == [str(place.folder / "canary")]  # it would be found
