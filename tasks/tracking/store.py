"""Functions that set up the tracking store, which is MLflow's database of runs and models.

MLFLOW_TRACKING_URI names the store. If the variable is not set, the store is a SQLite file in the folder `mlruns`.
"""

import functools
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import mlflow
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from kdmodels.errors import UnavailableError
from kdmodels.files.atomic import write_whole
from kdmodels.redaction import redacted, shown_address
from tasks.tracking import login, mlflow_internals
from tasks.tracking.outages import refusal

_MIGRATION_S = 300.0  # timeout for a migration by another process; it usually takes 2 s, but minutes in a large store


def configure(folder: Path | None = None) -> str:
    """Prepare the tracking store, set its URI for MLflow and for child processes, and return the URI.

    Call this function once before starting child processes. Further calls take almost no time.

    If the variable MLFLOW_TRACKING_URI is set, it names the store. Otherwise the store is the file `mlruns/mlflow.db`
    in `folder`. Relative SQLite paths become absolute, so that a child process in another directory uses the same
    store.

    Args:
        folder: Folder that contains `mlruns`. Default: the working directory.

    Raises:
        UserError: The store can't be written, reached or read. The message shows the URI without user and password.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder or Path.cwd()) / 'mlruns' / 'mlflow.db'}"
    uri = _without_credentials(uri)
    login.use_announced(uri)
    if database := sqlite_file(uri):
        if "?" in str(database):
            raise UnavailableError(
                f"tracking store {shown_address(uri)!r}: a path with '?' in it can't hold a SQLite store"
            )
        uri = f"sqlite:///{database}"
    _make_ready(uri)
    mlflow.set_tracking_uri(uri)
    os.environ["MLFLOW_TRACKING_URI"] = uri  # MLflow sets the variable only when the URI changes
    return uri


@functools.cache  # a check takes up to 1 s, and every command configures the store several times
def _make_ready(uri: str) -> None:
    database = sqlite_file(uri)
    try:
        if database:
            _prepare(database)
        elif uri.startswith(("http://", "https://")):
            _reach(uri)
        elif re.match(r"(postgresql|mysql|mssql)\b", uri):
            mlflow_internals.connect_once(uri)
        client = MlflowClient(uri)
        if database:
            mlflow_internals.wait_for_locks(client)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: no driver for the database
        raise UnavailableError(
            f"tracking store {shown_address(uri)!r} can't be used: {_sentence(error)} (allowed: the http "
            "address of an MLflow server, sqlite:///FILE, or a postgresql, mysql or mssql URI)"
        ) from error


def _without_credentials(uri: str) -> str:
    """Return the URI of a store. If the store is a server, remove the user and password, so that no message shows them.

    Store the user and password in MLflow's environment variables instead.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    return urlunsplit(parts._replace(netloc=host))


def experiment_id(name: str) -> str:
    """Return the id of an MLflow experiment. If the experiment does not exist, create it.

    Several processes can call this function at the same time.

    Raises:
        UserError: The experiment was deleted in MLflow. Only the user can restore it.
    """
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = _artifacts(client.tracking_uri, name)
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return experiment_id(name)  # another process created it first
    if experiment.lifecycle_stage == "deleted":
        raise UnavailableError(
            f"experiment {name!r} was deleted in MLflow; restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or choose another name"
        )
    return str(experiment.experiment_id)


def _artifacts(uri: str, experiment: str) -> str | None:
    """Return the URI of an experiment's artifact folder. If the store is not a SQLite file, return None.

    For a SQLite file, the folder is chosen here, because MLflow would choose a folder relative to the working
    directory. For any other store, MLflow chooses the folder.
    """
    if sqlite_file(uri) is None:
        return None
    folder = artifact_folder(uri)
    folder.mkdir(mode=0o700, exist_ok=True)
    return (folder / experiment).as_uri()


def artifact_folder(uri: str) -> Path:
    """Return the folder that contains the artifacts. The store must be on this machine.

    If the store is a SQLite file, the artifact folder is next to the file. If the store is another database, MLflow
    stores artifacts in `mlruns` in the working directory.
    """
    database = sqlite_file(uri)
    return database.parent / "artifacts" if database else Path.cwd() / "mlruns"


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store. For any other store, return None."""
    if not uri.startswith("sqlite:///"):
        return None
    path = uri.removeprefix("sqlite:///")
    return Path(path).absolute() if path and path != ":memory:" else None


def _prepare(database: Path) -> None:
    """Create a SQLite store, or upgrade its schema if the schema is old.

    If several processes call this function at the same time, only one of them changes the store.
    """
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(database.parent, os.W_OK) or (database.exists() and not os.access(database, os.W_OK)):
            raise PermissionError("no permission to write there")
        latest = mlflow_internals.latest_schema()
        if schema_version(database) == latest:
            return
        with FileLock(f"{database}.lock", timeout=_MIGRATION_S):
            version = schema_version(database)
            if version is None:
                # MLflow applies about 60 migrations. Write the file as a whole: a crash leaves no partial store.
                write_whole(database, _create)
            elif version != latest:
                _upgrade(database, version)
    except (OSError, sqlite3.Error, CommandError) as error:
        raise UnavailableError(f"tracking store '{database}' can't be used: {_sentence(error)}") from error


def is_shared() -> bool:
    """Return whether other machines can use the current tracking store. A SQLite file belongs to one machine."""
    return sqlite_file(os.environ["MLFLOW_TRACKING_URI"]) is None


def schema_version(database: Path) -> str | None:
    """Return the schema version of a SQLite store. If the store does not exist yet, return None.

    This function is much faster than MLflow's own check.
    """
    if not database.exists() or database.stat().st_size == 0:
        return None
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _create(file: Path) -> None:
    mlflow_internals.create_tables(file)
    with closing(sqlite3.connect(file)) as connection:
        # The file remembers the WAL mode. With 4 writers, WAL reduces the median time per batch from 24 ms to 10 ms,
        # and the longest time from 1.9 s to 0.15 s.
        connection.execute("PRAGMA journal_mode=WAL")


def _upgrade(database: Path, version: str) -> None:
    """Back up a database and upgrade its schema. `mlflow db upgrade` recommends the backup."""

    def copy(file: Path) -> None:
        with closing(sqlite3.connect(database)) as connection, closing(sqlite3.connect(file)) as backup:
            connection.backup(backup)

    write_whole(database.with_name(f"{database.name}.{version}.backup"), copy)
    mlflow_internals.upgrade_tables(database)


def _reach(uri: str) -> None:
    """Check that an MLflow server answers.

    Raises:
        UserError: The server does not answer, refuses the login, or is not an MLflow server.
    """
    try:
        status = mlflow_internals.ask_once(uri)
    except MlflowException as error:
        raise UnavailableError(
            f"no answer from the MLflow server at {shown_address(uri)!r}; is it running, and is "
            "MLFLOW_TRACKING_URI right?"
        ) from error
    if status in (401, 403):
        raise UnavailableError(refusal(shown_address(uri), status))
    if status != 200:
        raise UnavailableError(f"{shown_address(uri)!r} does not answer as an MLflow server does (HTTP {status})")


def _sentence(error: Exception) -> str:
    """Return the first sentence of an error's message, because MLflow's messages can have several paragraphs."""
    return redacted(re.split(r"\n|(?<=\w\w\.) ", f"{error}".strip())[0]) or type(error).__name__
