"""Contracts with the private parts of MLflow, SQLAlchemy and alembic. A failure means that an upgrade changed one."""

import inspect
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow.server
import pytest
from mlflow import MlflowClient
from mlflow.store.db import utils
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text

from tasks import tracking
from tasks.tracking import mlflow_internals


def test_the_tables_of_a_new_file_have_the_latest_schema(tmp_path: Path) -> None:
    mlflow_internals.create_tables(tmp_path / "new.db")
    mlflow_internals.upgrade_tables(tmp_path / "new.db")  # changes nothing
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        stamped = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert stamped == [(mlflow_internals.latest_schema(),)], (
        "MLflow no longer stamps its schema with alembic's revision"
    )


def test_mlflow_still_sets_the_timeout_that_is_replaced() -> None:
    source = inspect.getsource(utils._get_managed_session_maker)
    assert "PRAGMA busy_timeout" in source, (
        "MLflow no longer sets SQLite's busy_timeout in each session: remove `patient`, and set the timeout in the URL"
    )


@pytest.mark.parametrize("name", ["tracking", "registry"])
def test_both_stores_wait_for_a_locked_file_for_a_minute(store: Path, name: str) -> None:
    client = MlflowClient()
    stores = {"tracking": client._tracking_client.store, "registry": client._get_registry_client().store}
    with stores[name].ManagedSessionMaker() as session:
        waited = session.execute(text("SELECT timeout FROM pragma_busy_timeout")).scalar()
    assert waited == mlflow_internals.LOCKED_MS, f"MLflow's {name} store has another engine than the one that is set up"


def test_other_engines_keep_their_timeout(store: Path, tmp_path: Path) -> None:
    with utils.create_sqlalchemy_engine(f"sqlite:///{tmp_path}/other.db").connect() as connection:
        connection.execute(text("PRAGMA busy_timeout = 20000;"))
        assert connection.exec_driver_sql("SELECT timeout FROM pragma_busy_timeout").scalar() == 20_000


def test_a_database_can_delete_runs_and_models_for_good(store: Path) -> None:
    assert mlflow_internals.deletes_for_good(), "MLflow's SQL store has no `_hard_delete_run` any more"
    assert callable(getattr(SqlAlchemyStore, "_hard_delete_logged_model", None)), (
        "MLflow's SQL store has no `_hard_delete_logged_model` any more"
    )


def test_artifacts_on_this_machine_have_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "50% ü"
    assert mlflow_internals.local_path(folder.as_uri()) == folder
    assert mlflow_internals.local_path("mlflow-artifacts:/1/2") is None
    assert mlflow_internals.local_path("s3://bucket/1") is None


def test_sizes_are_listed_at_any_depth(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    tracking.log_text(run_id, "a.txt", "1234")
    tracking.log_text(run_id, "deep/er/b.txt", "56")
    uri = MlflowClient().get_run(run_id).info.artifact_uri
    assert sorted(mlflow_internals.file_sizes(uri)) == [2, 4]
    mlflow_internals.delete_artifacts(uri)
    assert list(mlflow_internals.file_sizes(uri)) == []


def test_the_mlflow_ui_still_opens_saved_views_and_the_view_for_model_training() -> None:
    scripts = Path(mlflow.server.__file__).parent / "js" / "build" / "static" / "js"
    text = "".join(script.read_text(encoding="utf-8") for script in scripts.glob("*.js"))
    parameter, _, value = mlflow_internals.MODEL_TRAINING.partition("=")
    view = json.loads(mlflow_internals.saved_view("a", 1, filter_string="", order_by="", columns=[]))
    names = [mlflow_internals.SAVED_VIEW, mlflow_internals.OPENED_VIEW, parameter, value, *json.loads(view["state"])]
    missing = [name for name in names if f'"{name}"' not in text]
    assert not missing, "MLflow's UI has other names for the parts of a saved view"
    assert ".createdAt" in text


def test_the_time_of_a_saved_view_is_read_back() -> None:
    value = mlflow_internals.saved_view("a", 1_700_000_000_000, filter_string="", order_by="", columns=[])
    assert mlflow_internals.saved_view_time(value) == 1_700_000_000_000
    assert [mlflow_internals.saved_view_time(text) for text in ("", "[]", "{}", '{"createdAt": null}')] == [0] * 4
