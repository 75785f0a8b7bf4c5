import os
import socket
import sqlite3
import stat
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base

from kdmodels.errors import UserError
from tasks import tracking

CHILD = """
import sys
from pathlib import Path
from tasks import tracking
tracking.configure(Path(sys.argv[1]))
run = tracking.start("shared", sys.argv[2], "teacher")
tracking.log_text(run, "who.txt", sys.argv[2])
print(tracking.experiment_id("shared"))
"""


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # registers the undoing of what configure exports


def revision(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.mark.fault
def test_four_processes_create_one_store_at_once(tmp_path: Path, unset: None) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(i)], env=clean, stdout=subprocess.PIPE, text=True
        )
        for i in range(4)
    ]
    ids = {child.communicate(timeout=120)[0].strip() for child in children}

    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert len(ids) == 1
    assert tracking.configure(tmp_path) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert {run.name for run in tracking.runs("shared")} == {"0", "1", "2", "3"}
    for run in tracking.runs("shared"):
        assert tracking.artifact(run.run_id, "who.txt").is_relative_to(tmp_path / "mlruns" / "artifacts")
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_folder_with_special_characters_and_an_empty_file_works(tmp_path: Path, unset: None) -> None:
    folder = tmp_path / "50% ü#1"
    (folder / "mlruns").mkdir(parents=True)
    (folder / "mlruns" / "mlflow.db").write_bytes(b"")  # left by a crash

    uri = tracking.configure(folder)

    assert os.environ["MLFLOW_TRACKING_URI"] == uri == f"sqlite:///{folder}/mlruns/mlflow.db"
    assert tracking.configure(tmp_path / "another") == uri  # once per process
    run = tracking.start("my digits", "a", "teacher")
    tracking.log_text(run, "a.txt", "text")
    assert tracking.artifact(run, "a.txt").read_text() == "text"
    assert list((folder / "mlruns").glob(".partial-*")) == []


def test_an_older_store_is_migrated_after_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "old.db"
    engine = create_sqlalchemy_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{database}")
    head, older = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][:2]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    engine.dispose()
    assert revision(database) == older
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")

    tracking.configure()

    assert revision(database) == head
    assert revision(tmp_path / f"old.db.{older}.backup") == older
    assert tracking.runs() == []


def test_a_store_at_head_is_not_migrated_again(store: Path) -> None:
    assert not (store / "mlflow.db.lock").exists()


def test_a_relative_store_becomes_absolute(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert tracking.configure() == os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{store}/mlflow.db"


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path, unset: None) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^tracking store '.*/file/mlruns/mlflow.db' can't be used: .*Not a directory"):
        tracking.configure(tmp_path / "file")


def test_a_file_that_is_not_a_database_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("not a database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(UserError, match=r"notes.txt' can't be used: file is not a database$"):
        tracking.configure()


def test_an_absent_server_is_a_clear_error_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers there
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:s%2Fcret@127.0.0.1:{held.getsockname()[1]}")
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            monkeypatch.setenv(name, "before")
        with pytest.raises(UserError, match=r"no answer from the MLflow server at 'http://127") as caught:
            tracking.configure()
    shown = "".join(traceback.format_exception(caught.value))  # as by `kd --debug`: MLflow's own errors show addresses
    assert "ConnectionError" in shown
    assert "s/cret" not in shown
    assert "s%2Fcret" not in shown
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ann", "s/cret")
    assert "ann" not in str(caught.value)


@pytest.mark.parametrize("uri", ["./mlruns", "nonsense://ann:secret@host"])
def test_an_impossible_store_is_one_line_with_what_is_allowed(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"can't be used: .*allowed: the http address") as caught:
        tracking.configure()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_threads_create_an_experiment_once(store: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(tracking.experiment_id, ["digits"] * 8))
    assert len(ids) == 1
    assert MlflowClient().get_experiment_by_name("digits").experiment_id in ids


def test_a_deleted_experiment_stays_deleted(store: Path) -> None:
    id_ = tracking.experiment_id("digits")
    MlflowClient().delete_experiment(id_)
    with pytest.raises(UserError, match=f"'digits' was deleted .* `mlflow experiments restore --experiment-id {id_}`"):
        tracking.experiment_id("digits")
    assert MlflowClient().get_experiment(id_).lifecycle_stage == "deleted"


@pytest.mark.parametrize("umask", [0, 0o022])
def test_a_new_store_can_only_be_read_by_its_owner(umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    before = os.umask(umask)
    try:
        tracking.configure()
        run = tracking.start("digits", "kd", "student")
        tracking.log_text(run, "one/a.txt", "content")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert {modes.pop(name) for name in ("mlruns", "artifacts")} == {0o700}
    assert {"mlflow.db", "mlflow.db-wal"} <= modes.keys()
    modes.pop("mlflow.db.lock", None)  # it is empty
    assert set(modes.values()) == {0o600}


def test_only_a_file_belongs_to_one_machine(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tracking.is_shared()
    for uri in ("http://127.0.0.1:5000", "postgresql+psycopg2://mlflow@postgres:5432/mlflow"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert tracking.is_shared()
