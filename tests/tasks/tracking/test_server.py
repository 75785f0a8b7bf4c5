"""The ledger on a real MLflow server. This process reaches the artifacts only through the server."""

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdmodels.errors import UserError
from tasks import tracking
from tasks.tracking import artifacts


@pytest.fixture
def server(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
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


def test_through_a_server_runs_are_marked_and_folders_are_deleted(server: str, tmp_path: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    tracking.log_text(run, "one/a.txt", "x" * 1_000)
    tracking.log_text(run, "two/a.txt", "x" * 500)
    tracking.end(run, "FINISHED")
    assert (tracking.run_bytes(run), tracking.folder_bytes(run, "two")) == (1_500, 500)
    assert not tracking.deletes_for_good()
    tracking.delete_folder(run, "two")
    assert [file.read_text() for file in (tmp_path / "s3").rglob("a.txt")] == ["x" * 1_000]
    tracking.delete_run(run)
    assert tracking.every_run() == []
    assert [gone.run_id for gone in tracking.marked_runs()] == [run]
    MlflowClient().restore_run(run)
    assert tracking.artifact(run, "one/a.txt").read_text() == "x" * 1_000


def wait(process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        with suppress(UserError):
            tracking.configure()
            return
        assert process.poll() is None, "the MLflow server died"
        time.sleep(0.5)
    raise TimeoutError("the MLflow server did not start")


def test_a_server_gets_large_files_in_parts(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "PART_BYTES", 1_000)
    content = {"large": os.urandom(2_500), "deep/even": os.urandom(2_000), "small": b"x", "other[1]": os.urandom(1_001)}
    for name, data in content.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    run = tracking.start("digits", "kd", "student")
    tracking.log_folder(run, tmp_path / "folder", "knowledge")
    stored = [file.stat().st_size for file in (tmp_path / "s3").rglob("*") if file.is_file()]
    assert sorted(stored) == [1, 1, 500, *[1_000] * 5]
    copy = tracking.artifact(run, "knowledge")
    files = {str(file.relative_to(copy)): file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    assert files == content


def test_the_ledger_works_the_same_on_a_server(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tracking.start("digits", "kd", "student", key="k1", params={"long": "x" * 7000})
    with tracking.recording(run):
        tracking.log_metrics(run, [("a", math.nan, 0), ("b", math.inf, 0)])
        tracking.log_json(run, "one/a.json", 1)
        tracking.log_json(run, "two/a.json", 2)

    assert tracking.read_json(run, "one/a.json") == 1
    assert [tracking.artifact(run, f"{folder}/a.json").read_text() for folder in ("one", "two")] == ["1", "2"]
    assert not (tmp_path / "mlruns" / "artifacts").exists()
    with pytest.raises(UserError, match=r"has no file 'a\.json'"):
        tracking.artifact(run, "a.json")
    found = tracking.finished("student", ["k1"]).get("k1")
    assert found is not None
    assert (found.run_id, found.status) == (run, "FINISHED")
    assert math.isnan(found.metrics["a"])
    assert tracking.find(run[:12]).name == "kd"
    with pytest.raises(UserError, match="is not in the tracking store"):
        tracking.find("another")
    assert capsys.readouterr().out == ""
