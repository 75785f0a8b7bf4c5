"""A database created over a plain connection equals the database that Prefect's server creates."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

OUR_SCRIPT = "from flows.services.prefect_internals.database import create_database; create_database()"
PREFECTS_SCRIPT = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def environment(home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**inherited, "PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "ERROR"}


def run(script: str, home: Path, **more: str) -> None:
    home.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", script], env={**environment(home), **more}, check=True)


def tables(home: Path) -> dict[tuple[str, str], list[str]]:
    """Return the sorted lines that define each table, index and trigger. The order of constraints is random."""
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        items = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {(kind, name): sorted(line.strip(" \t,") for line in (sql or "").splitlines()) for kind, name, sql in items}


def rows(home: Path) -> dict[str, int]:
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        names = [name for kind, name in tables(home) if kind == "table"]
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def interrupt(script: str, home: Path, revisions: int) -> None:
    """Run a script, and kill it after this number of migrations."""
    home.mkdir()
    process = subprocess.Popen([sys.executable, "-c", script], env=environment(home))
    done: set[str] = set()
    while len(done) < revisions:
        assert process.poll() is None
        time.sleep(0.05)
        if (home / "prefect.db").exists():
            with closing(sqlite3.connect(home / "prefect.db")) as connection, suppress(sqlite3.OperationalError):
                done.update(version for (version,) in connection.execute("SELECT version_num FROM alembic_version"))
    process.kill()
    process.wait()


@pytest.mark.fault  # takes half a minute
def test_a_new_database_equals_prefects_even_after_an_interruption(tmp_path: Path) -> None:
    ours, prefects, interrupted = tmp_path / "ours", tmp_path / "prefects", tmp_path / "interrupted"
    run(OUR_SCRIPT, ours)
    run(PREFECTS_SCRIPT, prefects)
    interrupt(OUR_SCRIPT, interrupted, revisions=10)
    assert tables(interrupted) != tables(prefects)
    run(PREFECTS_SCRIPT, interrupted)
    assert tables(ours) == tables(interrupted) == tables(prefects)
    assert rows(ours) == rows(interrupted) == rows(prefects)


def test_an_existing_database_is_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"")
    run(OUR_SCRIPT, tmp_path)
    assert (tmp_path / "prefect.db").read_bytes() == b""


@pytest.mark.fault  # takes long
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PREFECT_API_DATABASE_MIGRATE_ON_START", "false"),
        ("PREFECT_API_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true"),
        ("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://nobody@127.0.0.1:1/none"),
    ],
)
def test_no_file_is_created_if_prefect_would_create_none(tmp_path: Path, setting: str, value: str) -> None:
    run(OUR_SCRIPT, tmp_path, **{setting: value})
    assert not list(tmp_path.glob("*.db*"))
