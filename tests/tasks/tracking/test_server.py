"""The ledger on a real MLflow server. This process reaches the artifacts only through the server."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.server import get_app_client

from kdmodels.errors import UserError
from tasks import tracking
from tasks.tracking import artifacts


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


@pytest.mark.fault
@pytest.mark.usefixtures("login")
def test_a_user_may_not_delete_the_runs_of_others(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    get_app_client("basic-auth", server).create_user("ann", "password of ann")
    run = tracking.start("digits", "kd", "student")
    tracking.end(run, "FINISHED")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "password of ann")
        with pytest.raises(UserError, match=f"^run '{run}' can't be deleted: the MLflow server does not allow it"):
            tracking.delete_run(run)
    assert tracking.marked_runs() == []
    tracking.delete_run(run)
    assert [gone.run_id for gone in tracking.marked_runs()] == [run]


@pytest.mark.fault
def test_mlflow_gc_deletes_marked_runs_for_good(server: str, store: Path, tmp_path: Path) -> None:
    run, kept = tracking.start("digits", "kd", "student"), tracking.start("digits", "hint", "student")
    for run_id in (run, kept):
        tracking.log_text(run_id, "a.txt", run_id)
        tracking.end(run_id, "FINISHED")
    tracking.delete_run(run)
    words = ["--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--tracking-uri", server, "--older-than", "0d"]
    subprocess.run([sys.executable, "-m", "mlflow", "gc", *words], check=True, capture_output=True)
    assert [file.read_text() for file in (tmp_path / "s3").rglob("a.txt")] == [kept]
    assert tracking.marked_runs() == []
    assert [each.run_id for each in tracking.every_run()] == [kept]


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


def downloads(folder: Path) -> list[str]:
    """Return the artifact paths of all downloads, from the server's log."""
    return re.findall(r'"GET /api/2\.0/mlflow-artifacts/artifacts/\S*?/artifacts/(\S+) HTTP', log_of(folder))


def log_of(folder: Path) -> str:
    return (folder / "server.log").read_text()


def test_each_file_of_a_machine_copy_is_downloaded_once_and_checked_and_an_interrupted_download_continues(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(artifacts, "PART_BYTES", 1_000)
    content = {"train/logits.npy": os.urandom(2_500), "validation/logits.npy": b"x"}
    for name, data in content.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True)
        (tmp_path / "folder" / name).write_bytes(data)
    run = tracking.start("digits", "teacher", "teacher")
    tracking.log_checked_folder(run, tmp_path / "folder", "knowledge/0123")

    download = artifacts.download_artifacts

    def interrupted(uri: str, dst_path: str) -> str:
        if uri.endswith("part-0001"):
            raise KeyboardInterrupt
        return str(download(uri, dst_path=dst_path))

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "download_artifacts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tracking.machine_copy(run, "knowledge/0123", content)
    for _ in range(3):
        copy = tracking.machine_copy(run, "knowledge/0123", content)
        assert {name: (copy / name).read_bytes() for name in content} == content
    names = [name for name in downloads(tmp_path) if "checksums" not in name]
    assert len(names) == len(set(names)) == 4  # three parts of the large file, and the small file
    (tmp_path / "more" / "train").mkdir(parents=True)
    (tmp_path / "more" / "train" / "tap.npy").write_bytes(b"new")
    tracking.log_checked_folder(run, tmp_path / "more", "knowledge/0123")
    for file in (tmp_path / "s3").rglob("tap.npy"):
        file.write_bytes(b"old")
    with pytest.raises(UserError, match=r"'knowledge/0123/train/tap.npy' is damaged: its checksum is wrong"):
        tracking.machine_copy(run, "knowledge/0123", ["train/tap.npy"])
    for file in (tmp_path / "s3").rglob("tap.npy"):
        file.write_bytes(b"new")
    assert (tracking.machine_copy(run, "knowledge/0123", ["train/tap.npy"]) / "train/tap.npy").read_text() == "new"
    assert [folder.name for folder in (tracking.copies_folder() / run).iterdir()] == ["knowledge"]
    with pytest.raises(UserError, match=r"has no file 'knowledge/4567/train/logits.npy'"):
        tracking.machine_copy(run, "knowledge/4567", ["train/logits.npy"])


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
