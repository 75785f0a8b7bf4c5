import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kdmodels.errors import UserError
from tasks.tracking import health, mlflow_internals


def test_a_store_that_is_not_there_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert health.embedded_file() == tmp_path / "mlruns" / "mlflow.db"
    assert health.examine() == f"{tmp_path}/mlruns/mlflow.db: does not exist yet; the first run creates it"
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_described_by_its_size_and_schema(store: Path) -> None:
    line = health.examine()
    assert line.startswith(f"{store}/mlflow.db, ")
    assert line.endswith(f" MB, schema {mlflow_internals.latest_schema()}")


def test_a_store_that_stays_locked_is_a_clear_error(store: Path) -> None:
    with closing(sqlite3.connect(store / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match=r"can't be written: database is locked"):
            health.examine()


def test_a_server_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert health.embedded_file() is None
