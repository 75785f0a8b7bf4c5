"""Whether the store is fit for use, found out without making one."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from kdmodels.errors import UserError
from kdmodels.redaction import shown_address
from tasks.tracking import store

_LOCKED_S = 3.0  # a writer that holds the file longer than this is worth a line


def embedded_file() -> Path | None:
    """The SQLite file that `configure` would use, there or not; None where the store is a server or a database."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return store._sqlite_file(uri) if uri else Path.cwd() / "mlruns" / "mlflow.db"


def examine() -> str:
    """A line on where the store is and how; a schema older than this MLflow's is upgraded, as by every command.

    Raises:
        UserError: it can't be reached, read or written.
    """
    database = embedded_file()
    if database is None:
        return f"{shown_address(store.configure())} answers"
    if not database.exists():
        existing = next(folder for folder in database.parents if folder.exists())
        if not os.access(existing, os.W_OK):
            raise UserError(f"tracking store '{database}' can't be made: no permission to write in {existing}")
        return f"{database}: not there yet, the first run makes it"
    store.configure()
    try:
        with closing(sqlite3.connect(database, timeout=_LOCKED_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise UserError(f"tracking store '{database}' can't be written: {error}") from error
    return f"{database}, {database.stat().st_size / 1e6:.1f} MB, schema {store._revision(database)}"
