"""Addresses of runs and model versions in the MLflow UI."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlsplit

import mlflow
from mlflow import MlflowClient

from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import cache_folder, private_folder


@contextmanager
def ui_announced(store: str, address: str) -> Iterator[None]:
    """Announce the MLflow UI of a local store while the `with` block runs, so that other processes can link to it.

    The announcement is a private file with the address and the id of this process.

    Args:
        store: URI of the store.
        address: Address of the UI, without a user name or a password.
    """
    content = json.dumps({"pid": os.getpid(), "address": address})
    private_folder(_announcement(store).parent)
    path = write_whole(_announcement(store), lambda partial: partial.write_text(content))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def run_url(run_id: str) -> str | None:
    """Return the address of a run in the MLflow UI. If no UI of the store is known, return None."""
    address = _ui()
    if address is None:
        return None
    return f"{address}/#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}"


def version_url(model: str, version: int) -> str | None:
    """Return the address of a model version in the MLflow UI. If no UI of the store is known, return None."""
    address = _ui()
    return address and f"{address}/#/models/{quote(model, safe='')}/versions/{version}"


def _ui() -> str | None:
    """Return the address of the UI: the MLflow server that is the store, or the announced UI of a local store."""
    store = mlflow.get_tracking_uri()
    if store.startswith(("http://", "https://")):
        parts = urlsplit(store)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    try:
        state = json.loads(_announcement(store).read_text())
        os.kill(state["pid"], 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return str(state["address"])


def _announcement(store: str) -> Path:
    return cache_folder() / "servers" / f"mlflow-ui-{sha256(store.encode()).hexdigest()[:32]}.json"
