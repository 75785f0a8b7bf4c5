"""Functions that use private or undocumented parts of MLflow. Only this module and `mlflow_app` use these parts.

If an upgrade of MLflow, SQLAlchemy or alembic changes the parts, `tests/tasks/tracking/test_mlflow_internals.py` fails.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.utils import (
    _get_latest_schema_revision,
    _initialize_tables,
    _upgrade_db,
    create_sqlalchemy_engine,
)
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.rest_utils import http_request
from mlflow.utils.uri import is_local_uri
from sqlalchemy import Engine, event

MODEL_TRAINING = "workflowType=machine_learning"  # URL query that opens the UI's view for model training
SAVED_VIEW = "mlflow.sharedViewState."  # prefix of an experiment's tag that holds a saved view of the runs table
OPENED_VIEW = "viewStateShareKey"  # URL query parameter of the runs table: the tag's name without SAVED_VIEW
LOCKED_MS = 60_000  # timeout for a locked SQLite file; environment.py sets a similar timeout for a server


def latest_schema() -> str:
    """Return the schema version of the installed MLflow."""
    return str(_get_latest_schema_revision())


def create_tables(database: Path) -> None:
    """Create MLflow's tables in a new SQLite file."""
    engine = create_sqlalchemy_engine(f"sqlite:///{database}")
    _initialize_tables(engine)
    engine.dispose()


def upgrade_tables(database: Path) -> None:
    """Upgrade a SQLite file to the schema of the installed MLflow."""
    engine = create_sqlalchemy_engine(f"sqlite:///{database}")
    _upgrade_db(engine)
    engine.dispose()


def connect_once(uri: str) -> None:
    """Connect to a database server without retries.

    Raises:
        SQLAlchemyError: The server does not answer or refuses the connection.
    """
    engine = create_sqlalchemy_engine(uri)
    with engine.connect():
        pass
    engine.dispose()


def ask_once(uri: str) -> int:
    """Send one request to an MLflow server without retries, and return the HTTP status.

    MLflow's own client retries for minutes before it reports that a server does not answer.

    Raises:
        MlflowException: The server does not answer.
    """
    response = http_request(
        get_default_host_creds(uri),
        "/api/2.0/mlflow/experiments/search",
        "POST",
        max_retries=0,
        timeout=10,
        raise_on_status=False,
        json={"max_results": 1},
    )
    return int(response.status_code)


def server_version(uri: str) -> str:
    """Return the version of an MLflow server.

    Raises:
        MlflowException: The server does not answer.
    """
    response = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0, timeout=10)
    return str(response.text)


def wait_for_locks(client: MlflowClient) -> None:
    """Make the stores of an MLflow client wait up to `LOCKED_MS` ms for a locked SQLite file.

    By default, the stores wait up to 20 s. MLflow has no setting to change this timeout.
    """
    for store in (_store(client), client._get_registry_client().store):  # noqa: SLF001 - this module is the adapter
        patient(store.engine)


def patient(engine: Engine) -> None:
    """Make the connections of a database engine wait up to `LOCKED_MS` ms for a locked SQLite file.

    A second call changes nothing.
    """
    if not event.contains(engine, "before_cursor_execute", _with_longer_timeout):
        event.listen(engine, "before_cursor_execute", _with_longer_timeout, retval=True)


def _with_longer_timeout(
    connection: object, cursor: object, statement: str, parameters: object, *_: object
) -> tuple[str, object]:
    """Replace the timeout by `LOCKED_MS` in the SQL statement that MLflow sends to set the timeout."""
    if statement.startswith("PRAGMA busy_timeout"):
        statement = f"PRAGMA busy_timeout = {LOCKED_MS}"
    return statement, parameters


def deletes_for_good() -> bool:
    """Return whether this process can delete runs permanently.

    Permanent deletion is possible only if this process writes to the database directly. Through a server, runs can only
    be marked as deleted.
    """
    return hasattr(_store(MlflowClient()), "_hard_delete_run")


def hard_delete_run(run_id: str) -> None:
    """Delete a run's rows from the database."""
    _store(MlflowClient())._hard_delete_run(run_id)  # noqa: SLF001 - this module is the adapter


def hard_delete_model(model_id: str) -> None:
    """Delete a logged model's rows from the database."""
    _store(MlflowClient())._hard_delete_logged_model(model_id)  # noqa: SLF001 - this module is the adapter


def local_path(uri: str) -> Path | None:
    """Return the local path of an artifact URI. If the artifacts are on another machine, return None."""
    return Path(local_file_uri_to_path(uri)) if is_local_uri(uri) else None


def file_sizes(uri: str) -> Iterator[int]:
    """Yield the size in bytes of each file below an artifact URI on another machine."""
    yield from _sizes_below(get_artifact_repository(uri), None)


def delete_artifacts(uri: str) -> None:
    """Delete all files below an artifact URI on another machine."""
    get_artifact_repository(uri).delete_artifacts()


def _sizes_below(repository: ArtifactRepository, path: str | None) -> Iterator[int]:
    for info in repository.list_artifacts(path):
        if info.is_dir:
            yield from _sizes_below(repository, info.path)
        else:
            yield info.file_size or 0


def _store(client: MlflowClient) -> Any:
    return client._tracking_client.store  # noqa: SLF001 - this module is the adapter


def saved_view(title: str, created: int, *, filter_string: str, order_by: str, columns: Sequence[str]) -> str:
    """Return the value of a `SAVED_VIEW` tag. The view sets the rows and columns of the runs table in the MLflow UI.

    Args:
        title: Title of the view in the UI's list of saved views.
        created: Time of the creation of the view, in ms since 1970.
        filter_string: Filter of the runs in the syntax of MLflow.
        order_by: Column by which the runs are sorted, the largest value first.
        columns: Columns of the table, e.g. "metrics.`val/accuracy`".
    """
    state = {
        "searchFilter": filter_string,
        "orderByKey": order_by,
        "orderByAsc": False,
        "selectedColumns": [*columns],
        "columnOrder": [*columns],  # otherwise MLflow sorts the columns by name
    }
    return json.dumps({"name": title, "createdAt": created, "state": json.dumps(state)})


def saved_view_time(value: str) -> int:
    """Return the time at which a saved view was created, in ms since 1970. If the value is malformed, return 0."""
    try:
        return int(json.loads(value)["createdAt"])
    except (ValueError, KeyError, TypeError):
        return 0
