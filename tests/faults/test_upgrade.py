"""The commands of docs/stack.md upgrade databases of earlier versions of MLflow and Prefect, and keep their rows.

tests/stack runs the commands on PostgreSQL.
"""

import os
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.server.auth.db import utils as logins
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.db.utils import _get_alembic_config, _get_latest_schema_revision, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base

pytestmark = pytest.mark.fault

BIN = Path(sys.executable).parent
VERSION = "SELECT version_num FROM alembic_version"
PREFECT_3_8_8 = "a3b9c7d2e5f1"  # the last migration of the previous lock. MLflow has been the same in all locks


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def insert(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement, values)


def run(*words: str, **environment: str) -> None:
    done = subprocess.run([*words], env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_mlflows_database(tmp_path: Path) -> None:
    database, uri = tmp_path / "old.db", f"sqlite:///{tmp_path}/old.db"
    engine = create_sqlalchemy_engine(uri)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(uri)
    older = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][1]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, older)
    engine.dispose()
    insert(database, "INSERT INTO experiments (name, lifecycle_stage) VALUES (?, ?)", "digits", "active")
    assert rows(database, VERSION) == [(older,)]
    run(str(BIN / "mlflow"), "db", "upgrade", uri)
    assert rows(database, VERSION) == [(_get_latest_schema_revision(),)]
    assert "digits" in [experiment.name for experiment in MlflowClient(uri).search_experiments()]


def test_the_database_of_mlflows_logins(tmp_path: Path) -> None:
    database, uri = tmp_path / "old.db", f"sqlite:///{tmp_path}/old.db"
    engine = create_sqlalchemy_engine(uri)
    logins.migrate(engine, logins.INITIAL_REVISION)
    engine.dispose()
    insert(database, "INSERT INTO users (username, password_hash, is_admin) VALUES (?, ?, ?)", "ann", "hash", False)
    run(sys.executable, "-P", "-m", "mlflow.server.auth", "db", "upgrade", "--url", uri)
    store = SqlAlchemyStore()
    store.init_db(uri)
    assert [user.username for user in store.list_users()] == ["ann"]


def test_prefects_database(tmp_path: Path) -> None:
    database, flow = tmp_path / "prefect.db", str(uuid.uuid4())
    prefect = str(BIN / "prefect"), "server", "database", "upgrade", "-y"
    environment = {"PREFECT_HOME": str(tmp_path)}
    run(*prefect, "-r", PREFECT_3_8_8, **environment)
    assert rows(database, VERSION) == [(PREFECT_3_8_8,)]
    insert(database, "INSERT INTO flow (id, name) VALUES (?, ?)", flow, "distill")
    run(*prefect, **environment)
    assert rows(database, VERSION) != [(PREFECT_3_8_8,)]
    assert rows(database, "SELECT id, name FROM flow") == [(flow, "distill")]
