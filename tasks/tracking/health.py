"""Checks of the tracking store. If the store does not exist, the checks do not create it."""

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient

from kdmodels.errors import UserError
from kdmodels.redaction import shown_address
from tasks.tracking import mlflow_internals, store
from tasks.tracking.artifacts import artifact, log_text

CHECK = "kd doctor"  # name of the experiment and of its only run, which `check_writes` writes to
_LOCKED_S = 3.0  # if another process locks the file for longer, `examine` raises an error


def embedded_file() -> Path | None:
    """Return the path of the SQLite file that `configure` would use, even if the file does not exist.

    If the store is a server or another database, return None.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return store.sqlite_file(uri) if uri else Path.cwd() / "mlruns" / "mlflow.db"


def examine() -> str:
    """Return one line about the location and the state of the store.

    If the schema of the store is older than the schema of the installed MLflow, upgrade the schema, as every command
    does.

    Raises:
        UserError: The store can't be reached, read or written.
    """
    database = embedded_file()
    if database is None:
        return f"{shown_address(store.configure())} answers"
    if not database.exists():
        existing = next(folder for folder in database.parents if folder.exists())
        if not os.access(existing, os.W_OK):
            raise UserError(f"tracking store '{database}' can't be made: no permission to write in {existing}")
        return f"{database}: does not exist yet; the first run creates it"
    store.configure()
    try:
        with closing(sqlite3.connect(database, timeout=_LOCKED_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise UserError(f"tracking store '{database}' can't be written: {error}") from error
    return f"{database}, {database.stat().st_size / 1e6:.1f} MB, schema {store.schema_version(database)}"


def server_version(uri: str) -> str:
    """Return the version of an MLflow server."""
    return mlflow_internals.server_version(uri)


def check_writes() -> None:
    """Write a tag and a file to a run of the store, and read the file.

    Every check uses the same run, because a user of a team's server may not be allowed to delete a run.

    Raises:
        UserError: The file that was read differs from the file that was written.
    """
    client, experiment, text = MlflowClient(), store.experiment_id(CHECK), secrets.token_hex(16)
    existing = client.search_runs([experiment], max_results=1)
    run_id = existing[0].info.run_id if existing else client.create_run(experiment, run_name=CHECK).info.run_id
    client.set_tag(run_id, "kd.checked", text)
    log_text(run_id, "check.txt", text)
    if artifact(run_id, "check.txt").read_text() != text:
        raise UserError(f"run {run_id!r}: its file 'check.txt' is not the one that was written")
    client.set_terminated(run_id)
