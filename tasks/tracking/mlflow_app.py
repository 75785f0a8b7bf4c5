"""MLflow's server as `kd up` and `kd ui` start it: for its own pages, with the store's artifact folder and no other.

`mlflow server --app-name` starts it by the names in pyproject.toml. MLflow's own parts that are private or of a plugin
are used here only; `tests/tasks/tracking/test_mlflow_app.py` fails if an upgrade changes them.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path

from tasks.same_origin import Application, Message, Receive, Send, same_origin_only

# The assistant runs commands as the user who started the server; webhooks send requests wherever they are told to.
_UNUSED = ("/mlflow/assistant", "/mlflow/webhooks", "/gateway/", "/mlflow/gateway")


def create_app() -> Application:
    """Return the server's application."""
    from mlflow.server import app as flask_app  # its import reads the environment of a server
    from mlflow.server.fastapi_app import app

    return _guarded(app, flask_app)


def create_app_with_login() -> Application:
    """Return the server's application, which asks for a user and password.

    The admin's password is the one in the environment, also if the database of users remembers another.
    """
    from mlflow.server import app as flask_app
    from mlflow.server import auth

    app = auth.create_app(flask_app)
    admin, password = str(auth.auth_config.admin_username), str(auth.auth_config.admin_password)
    if not auth.store.authenticate_user(admin, password):
        auth.store.update_user(admin, password=password)
    return _guarded(app, flask_app)


class StoreArtifacts(LocalArtifactRepository):
    """Artifacts in a folder below the store's own. MLflow itself refuses links out of such a folder."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        _require_within_store(self.artifact_dir)


def _guarded(app: Any, flask_app: Any) -> Application:
    from mlflow.server import handlers

    registry = artifact_repository_registry._artifact_repository_registry
    for scheme in list(registry.get_registered_artifact_repositories()):
        if scheme in ("", "file"):
            registry.register(scheme, StoreArtifacts)
        elif scheme not in ("mlflow-artifacts", "runs", "models"):  # these lead to one of the others
            registry.register(scheme, _refuse)
    flask_app.before_request(handlers.catch_mlflow_exception(_check_new_experiment))

    async def without_unused(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(part in scope["path"] for part in _UNUSED):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"kdflow does not serve this part of MLflow"})
        else:
            await app(scope, receive, send)

    return same_origin_only(without_unused)


def _check_new_experiment() -> None:
    """Refuse a new experiment whose artifacts would lie outside the store's folder."""
    from flask import request
    from mlflow.server import handlers

    if request.method != "POST" or not request.path.endswith("/mlflow/experiments/create"):
        return
    for field, value in handlers._get_normalized_request_json(request).items():
        if field.replace("_", "").lower() == "artifactlocation" and value:
            if urlsplit(str(value)).scheme == "mlflow-artifacts":
                continue
            _require_within_store(local_file_uri_to_path(str(value)))


def _refuse(artifact_uri: str, **_: Any) -> LocalArtifactRepository:
    raise MlflowException.invalid_parameter_value(
        f"artifacts at {urlsplit(artifact_uri).scheme}: are not served here; allowed: {_folder()}"
    )


def _require_within_store(path: str) -> None:
    if not Path(path).resolve().is_relative_to(_folder()):
        raise MlflowException.invalid_parameter_value(f"artifacts outside {_folder()} are not served here")


def _folder() -> Path:
    """Return the folder that `--artifacts-destination` names."""
    return Path(local_file_uri_to_path(os.environ[ARTIFACTS_DESTINATION_ENV_VAR])).resolve()
