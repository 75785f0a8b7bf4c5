import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kdmodels.errors import UnavailableError
from tasks import tracking


def started(name: str) -> str:
    run_id = tracking.start("digits", name, "student")
    tracking.log_text(run_id, "a.txt", "1234")
    tracking.log_text(run_id, "folder/b.txt", "56")
    return run_id


def rows(store: Path, run_id: str) -> int:
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()[0])


def test_a_deleted_run_leaves_neither_rows_nor_files(store: Path) -> None:
    deleted, kept = started("deleted"), started("kept")
    folder = tracking.artifact(deleted, "a.txt").parent
    tracking.delete_run(deleted)
    assert (rows(store, deleted), rows(store, kept)) == (0, 1)
    assert not folder.exists()
    assert tracking.artifact(kept, "a.txt").read_text() == "1234"
    assert [run.run_id for run in tracking.every_run()] == [kept]


def test_an_interrupted_deletion_is_completed_by_the_next(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = started("kd")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.tracking.mlflow_internals.hard_delete_run", lambda run_id: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tracking.delete_run(run_id)
    assert tracking.every_run() == []
    assert [run.run_id for run in tracking.marked_runs()] == [run_id]
    tracking.delete_run(run_id)
    assert (rows(store, run_id), tracking.marked_runs()) == (0, [])


def test_sizes_are_those_of_files_at_any_depth(store: Path) -> None:
    run_id = started("kd")
    assert tracking.run_bytes(run_id) == 6
    assert tracking.folder_bytes(run_id, "folder") == 2
    assert tracking.folder_bytes(run_id, "nothing") == 0


def test_a_folder_and_a_tag_are_deleted_alone(store: Path) -> None:
    run_id = started("kd")
    tracking.set_tags(run_id, {"a": 1, "b": 2})
    tracking.delete_folder(run_id, "folder")
    tracking.delete_tag(run_id, "a")
    tracking.delete_tag(run_id, "absent")
    assert not tracking.has_artifact(run_id, "folder")
    assert tracking.has_artifact(run_id, "a.txt")
    assert "a" not in tracking.get(run_id).tags
    assert tracking.get(run_id).tags["b"] == "2"


def test_a_file_that_cannot_be_deleted_is_a_clear_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    run_id = started("kd")
    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(UnavailableError, match=r"folder: can't be deleted: Permission denied"):
        tracking.delete_folder(run_id, "folder")
