"""The applications of the MLflow servers that `kd up`, `kd ui` and the team stack start.

The applications of `kd up` and `kd ui` accept requests only from their own pages, and serve only artifacts in the
store's artifact folder. The application of the team stack serves only artifacts in the server's bucket. MLflow itself
checks the Host and the origin of the requests to the team stack.
`mlflow server --app-name` finds the application through the entry points in pyproject.toml.

No other module uses private parts of MLflow's server. If an upgrade of MLflow changes these parts,
`tests/tasks/tracking/test_mlflow_app.py` fails.

MLflow's server modules are imported inside functions, because their import reads the environment of a running server.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, request
from mlflow.exceptions import MlflowException
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path

from tasks.same_origin import Application, Message, Receive, Send, same_origin_only
from tasks.tracking import mlflow_internals

WORKER = "worker"
WORKER_PASSWORD = "KD_MLFLOW_WORKER_PASSWORD"
"""The environment variable of the team stack's server that holds the password of the user `worker`."""

# Parts of MLflow that this server does not serve. The assistant runs commands as the user who started the server.
# Webhooks send requests to any address.
_UNUSED = ("/mlflow/assistant", "/mlflow/webhooks", "/gateway/", "/mlflow/gateway")


def create_app() -> Application:
    """Return the application of `kd up` and `kd ui`, without a login."""
    from mlflow.server import app as flask_app  # noqa: PLC0415 - see the module's docstring
    from mlflow.server.fastapi_app import app  # noqa: PLC0415 - see the module's docstring

    return _guarded(app, flask_app)


def create_app_with_login() -> Application:
    """Return the application of `kd up` and `kd ui`, with a login.

    The admin's password comes from the environment. If the users' database contains another password for the admin,
    this function replaces that password.
    """
    from mlflow.server import app as flask_app  # noqa: PLC0415 - see the module's docstring
    from mlflow.server import auth  # noqa: PLC0415 - see the module's docstring

    app = auth.create_app(flask_app)
    _set_password(str(auth.auth_config.admin_username), str(auth.auth_config.admin_password))
    return _guarded(app, flask_app)


def create_app_for_team() -> Application:
    """Return the application of the team stack, with a login and with artifacts in a bucket.

    The passwords of the admin and of the user `worker` come from the environment, as in `create_app_with_login`.
    MLflow's own checks of the Host and of the origin of a request stay enabled.
    """
    from mlflow.server import app as flask_app  # noqa: PLC0415 - see the module's docstring
    from mlflow.server import auth, handlers  # noqa: PLC0415 - see the module's docstring

    app = auth.create_app(flask_app)
    _set_password(str(auth.auth_config.admin_username), str(auth.auth_config.admin_password))
    if not auth.store.has_user(WORKER):
        auth.store.create_user(WORKER, os.environ[WORKER_PASSWORD])
    _set_password(WORKER, os.environ[WORKER_PASSWORD])
    bucket = urlsplit(os.environ[ARTIFACTS_DESTINATION_ENV_VAR]).scheme
    _replace_artifact_stores({bucket}, {})
    flask_app.before_request(handlers.catch_mlflow_exception(_require_bucket))
    return _without_unused(app)


def _set_password(user: str, password: str) -> None:
    from mlflow.server import auth  # noqa: PLC0415 - see the module's docstring

    if not auth.store.authenticate_user(user, password):
        auth.store.update_user(user, password=password)


class StoreArtifacts(LocalArtifactRepository):
    """An artifact repository of MLflow that serves only artifacts in the store's artifact folder.

    MLflow itself refuses links that lead out of this folder.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        _require_within_store(self.artifact_dir)


def _guarded(app: Application, flask_app: Flask) -> Application:
    from mlflow.server import handlers  # noqa: PLC0415 - see the module's docstring

    tracking_store: Any = handlers._get_tracking_store()  # noqa: SLF001 - this module is the adapter
    model_store: Any = handlers._get_model_registry_store()  # noqa: SLF001 - this module is the adapter
    for store in (tracking_store, model_store):
        mlflow_internals.patient(store.engine)
    _replace_artifact_stores(set(), {"": StoreArtifacts, "file": StoreArtifacts})
    flask_app.before_request(handlers.catch_mlflow_exception(_check_new_experiment))
    return same_origin_only(_without_unused(app))


def _replace_artifact_stores(kept: set[str], replaced: dict[str, type[LocalArtifactRepository]]) -> None:
    """Set which artifact URIs MLflow serves, by the scheme of the URI. All other schemes are refused.

    Args:
        kept: Schemes that MLflow serves as before. MLflow's own schemes are always kept.
        replaced: The new repository class of each replaced scheme.
    """
    kept = kept | {"mlflow-artifacts", "runs", "models"}  # MLflow translates these to other schemes
    registry = artifact_repository_registry._artifact_repository_registry  # noqa: SLF001 - this module is the adapter
    for scheme in set(registry.get_registered_artifact_repositories()) - kept:
        registry.register(scheme, replaced.get(scheme, _refuse))


def _without_unused(app: Application) -> Application:
    async def without_unused(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(part in scope["path"] for part in _UNUSED):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"kdflow does not serve this part of MLflow"})
        else:
            await app(scope, receive, send)

    return without_unused


def _check_new_experiment() -> None:
    """Refuse a new experiment whose artifacts would lie outside the store's artifact folder."""
    for location in _new_locations():
        if urlsplit(location).scheme != "mlflow-artifacts":
            _require_within_store(local_file_uri_to_path(location))


def _require_bucket() -> None:
    """Refuse a request for a new experiment that names a location for the experiment's artifacts.

    The server itself chooses a location in its bucket. If users could choose the location, they could read files of the
    server, or artifacts of experiments that they are not allowed to read.
    """
    for location in _new_locations():
        raise MlflowException.invalid_parameter_value(f"artifact_location: expected none, got {location!r}")


def _new_locations() -> Iterator[str]:
    """Yield the locations that a request names for the artifacts of a new experiment."""
    from mlflow.server import handlers  # noqa: PLC0415 - see the module's docstring

    if request.method != "POST" or not request.path.endswith("/mlflow/experiments/create"):
        return
    fields = handlers._get_normalized_request_json(request)  # noqa: SLF001 - this module is the adapter
    for field, value in fields.items():
        if field.replace("_", "").lower() == "artifactlocation" and value:
            yield str(value)


def _refuse(artifact_uri: str, **_: object) -> LocalArtifactRepository:
    raise MlflowException.invalid_parameter_value(
        f"artifacts at {urlsplit(artifact_uri).scheme}: are not served here; allowed: "
        f"{os.environ[ARTIFACTS_DESTINATION_ENV_VAR]}"
    )


def _require_within_store(path: str) -> None:
    if not Path(path).resolve().is_relative_to(_folder()):
        raise MlflowException.invalid_parameter_value(f"artifacts outside {_folder()} are not served here")


def _folder() -> Path:
    """Return the store's artifact folder, which the option `--artifacts-destination` of the server sets."""
    return Path(local_file_uri_to_path(os.environ[ARTIFACTS_DESTINATION_ENV_VAR])).resolve()
