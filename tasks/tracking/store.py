"""Where the ledger is: the server that MLFLOW_TRACKING_URI names, or an embedded SQLite store under `mlruns/`."""

import os
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import mlflow
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import (
    _get_latest_schema_revision,
    _initialize_tables,
    _upgrade_db,
    create_sqlalchemy_engine,
)
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from kdmodels.errors import UnavailableError
from kdmodels.redaction import redacted, shown_address
from tasks.tracking import login

_LOCK = threading.Lock()
_READY: set[str] = set()  # the stores that this process has checked
_MIGRATION_S = 300.0  # how long to wait while another process migrates: 2 s usually, minutes for a big store


def configure(folder: Path | None = None) -> str:
    """Make the store ready, tell MLflow and child processes of it, and return its URI.

    Call it once before any fan-out; again it costs nothing. MLFLOW_TRACKING_URI wins; without it the store is
    `<folder, or the working directory>/mlruns/mlflow.db`. Relative SQLite paths become absolute, so that a child in
    another directory means the same store.

    Raises:
        UserError: the store can't be written, reached or read; the line names its URI without user and password.
    """
    with _LOCK:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder or Path.cwd()) / 'mlruns' / 'mlflow.db'}"
        uri = _credentials_apart(uri)
        login.use_announced(uri)
        if database := _sqlite_file(uri):
            if "?" in str(database):
                raise UnavailableError(
                    f"tracking store {shown_address(uri)!r}: a path with '?' in it can't hold a SQLite store"
                )
            uri = f"sqlite:///{database}"
        if uri not in _READY:
            try:
                if database:
                    _prepare(database)
                else:
                    _reach(uri)
                MlflowClient(uri).search_experiments(max_results=1)
            except (MlflowException, SQLAlchemyError, ImportError) as error:  # ImportError: a database's driver
                raise UnavailableError(
                    f"tracking store {shown_address(uri)!r} can't be used: {_sentence(error)} (allowed: the http "
                    "address of an MLflow server, sqlite:///FILE, or a postgresql, mysql or mssql URI)"
                ) from error
            _READY.add(uri)
        mlflow.set_tracking_uri(uri)
        os.environ["MLFLOW_TRACKING_URI"] = uri  # MLflow exports it only when it changes
        return uri


def _credentials_apart(uri: str) -> str:
    """A server's address without user and password, which go where MLflow looks for them, and no message shows them."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    return urlunsplit(parts._replace(netloc=host))


# MLflow's UI opens an experiment without it among tools for language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


def experiment_id(name: str) -> str:
    """The id of the MLflow experiment of that name, made if there is none; several processes may ask at once.

    Raises:
        UserError: it was deleted in MLflow; it is not brought back silently.
    """
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = _artifacts(client.tracking_uri, name)
            return str(client.create_experiment(name, artifact_location=location, tags=_KIND))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return experiment_id(name)  # another process was faster
    if experiment.lifecycle_stage == "deleted":
        raise UnavailableError(
            f"experiment {name!r} was deleted in MLflow; restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or choose another name"
        )
    return str(experiment.experiment_id)


def _artifacts(uri: str, experiment: str) -> str | None:
    """Return the address of an experiment's artifacts beside a SQLite file; None if MLflow is to choose one.

    MLflow's own choice would be relative to some working folder.
    """
    if _sqlite_file(uri) is None:
        return None
    folder = artifact_folder(uri)
    folder.mkdir(mode=0o700, exist_ok=True)
    return (folder / experiment).as_uri()


def artifact_folder(uri: str) -> Path:
    """Return the folder with the artifacts of a store on this machine.

    It lies beside a SQLite file. For another database it is MLflow's own choice, below the working folder.
    """
    database = _sqlite_file(uri)
    return database.parent / "artifacts" if database else Path.cwd() / "mlruns"


def _sqlite_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite:///"):
        return None
    path = uri.removeprefix("sqlite:///")
    return Path(path).absolute() if path and path != ":memory:" else None


def _prepare(database: Path) -> None:
    """Bring a SQLite store to this MLflow's schema, once, whoever else wants to do the same now."""
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(database.parent, os.W_OK) or (database.exists() and not os.access(database, os.W_OK)):
            raise PermissionError("no permission to write there")
        head = _get_latest_schema_revision()
        if _revision(database) == head:
            return
        with FileLock(f"{database}.lock", timeout=_MIGRATION_S):
            revision = _revision(database)
            if revision is None:
                _create(database)
            elif revision != head:
                _upgrade(database, revision)
    except (OSError, sqlite3.Error, CommandError) as error:
        raise UnavailableError(f"tracking store '{database}' can't be used: {_sentence(error)}") from error


def _revision(database: Path) -> str | None:
    """The schema's version stamp; None for a store that is not there yet. MLflow's own check costs far more."""
    if not database.exists() or database.stat().st_size == 0:
        return None
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _create(database: Path) -> None:
    """Made beside and renamed, so that a crash in the middle of some 60 migrations leaves nothing half made."""
    partial = database.with_name(f"{database.name}.partial")
    partial.unlink(missing_ok=True)
    _create_private(partial)
    engine = create_sqlalchemy_engine(f"sqlite:///{partial}")
    _initialize_tables(engine)
    engine.dispose()
    with closing(sqlite3.connect(partial)) as connection:
        # Kept in the file. Four writers: median batch 10 ms instead of 24, slowest 0.15 s instead of 1.9.
        connection.execute("PRAGMA journal_mode=WAL")
    partial.replace(database)


def _create_private(file: Path) -> None:
    """Create an empty file for this user alone; SQLite gives its journals the same mode."""
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _upgrade(database: Path, revision: str) -> None:
    """Back up the database, as `mlflow db upgrade` asks to, and upgrade it."""
    copy = database.with_name(f"{database.name}.{revision}.backup")
    copy.unlink(missing_ok=True)
    _create_private(copy)
    with closing(sqlite3.connect(database)) as connection, closing(sqlite3.connect(copy)) as backup:
        connection.backup(backup)
    engine = create_sqlalchemy_engine(f"sqlite:///{database}")
    _upgrade_db(engine)
    engine.dispose()


def _reach(uri: str) -> None:
    """Ask once, with no retry: MLflow itself would try an absent server for minutes before it says so."""
    if uri.startswith(("http://", "https://")):
        try:
            response = http_request(
                get_default_host_creds(uri),
                "/api/2.0/mlflow/experiments/search",
                "POST",
                max_retries=0,
                timeout=10,
                raise_on_status=False,
                json={"max_results": 1},
            )
        except MlflowException as error:
            raise UnavailableError(
                f"no answer from the MLflow server at {shown_address(uri)!r}; is it running, and is "
                "MLFLOW_TRACKING_URI right?"
            ) from error
        if response.status_code in (401, 403):
            raise UnavailableError(
                f"the MLflow server at {shown_address(uri)!r} refused us (HTTP {response.status_code}); "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if response.status_code != 200:
            raise UnavailableError(
                f"{shown_address(uri)!r} does not answer as an MLflow server does (HTTP {response.status_code})"
            )
    elif re.match(r"(postgresql|mysql|mssql)\b", uri):
        with create_sqlalchemy_engine(uri).connect():
            pass


def _sentence(error: Exception) -> str:
    """The first sentence of a message, since MLflow's may be whole paragraphs."""
    return redacted(re.split(r"\n|(?<=\w\w\.) ", f"{error}".strip())[0]) or type(error).__name__
