"""Addresses of runs and model versions in the MLflow UI."""

import os
from contextlib import AbstractContextManager
from hashlib import sha256
from urllib.parse import quote, urlsplit

import mlflow
from mlflow import MlflowClient

from tasks.tracking.announcements import announced, announcement

UI_ADDRESS = "KD_MLFLOW_UI_URL"
"""The environment variable that names the address of the MLflow UI for people, if it is not that of the store."""


def ui_announced(store: str, address: str) -> AbstractContextManager[None]:
    """Announce the MLflow UI of a local store while the `with` block runs, so that other processes can link to it.

    Args:
        store: URI of the store.
        address: Address of the UI, without a user name or a password.
    """
    return announced(_name(store), address)


def run_url(run_id: str) -> str | None:
    """Return the address of a run in the MLflow UI. If no UI of the store is known, return None."""
    address = _ui()
    if address is None:
        return None
    return f"{address}/#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}"


def artifact_link(run_id: str, path: str) -> str:
    """Return the address of a run's artifact as a link inside the MLflow UI, for the description of a run."""
    return f"#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}/artifacts/{quote(path)}"


def version_url(model: str, version: int) -> str | None:
    """Return the address of a model version in the MLflow UI. If no UI of the store is known, return None."""
    address = _ui()
    return address and f"{address}/#/models/{quote(model, safe='')}/versions/{version}"


def _ui() -> str | None:
    """Return the address of the UI, without a user name, a password or a slash at the end.

    It is the address in `KD_MLFLOW_UI_URL`, the MLflow server that is the store, or the announced UI of a local store.
    """
    store = mlflow.get_tracking_uri()
    address = os.environ.get(UI_ADDRESS) or store
    if address.startswith(("http://", "https://")):
        parts = urlsplit(address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return announcement(_name(store))


def _name(store: str) -> str:
    return f"mlflow-ui-{sha256(store.encode()).hexdigest()[:32]}"
