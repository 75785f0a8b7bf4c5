"""Addresses of runs, artifacts and model versions in the MLflow UI.

A link starts with `#` and is relative to the address of the UI. Descriptions of runs hold links, because links work at
every address of the UI. For readers outside the UI, `address` returns the full address of a link.
"""

import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from hashlib import sha256
from urllib.parse import quote, urlsplit

import mlflow
from mlflow import MlflowClient

from tasks.tracking.announcements import announced, announcement
from tasks.tracking.lookup import experiment_names, runs_with, search
from tasks.tracking.mlflow_internals import MODEL_TRAINING, OPENED_VIEW
from tasks.tracking.tags import Tag

UI_ADDRESS = "KD_MLFLOW_UI_URL"
"""The environment variable for the address at which people open the MLflow UI. Default: see `_ui`."""


def ui_announced(store: str, address: str) -> AbstractContextManager[None]:
    """Announce the MLflow UI of a local store while the `with` block runs, so that other processes can link to it.

    Args:
        store: URI of the store.
        address: Address of the UI, without a user name or a password.
    """
    return announced(_name(store), address)


def address(link: str) -> str | None:
    """Return the full address of a link inside the MLflow UI. If no UI of the store is known, return None."""
    ui = _ui()
    return f"{ui}/{link}" if ui else None


def run_link(run_id: str) -> str:
    """Return the link to a run."""
    return f"{_run(run_id)}?{MODEL_TRAINING}"


def artifact_link(run_id: str, path: str) -> str:
    """Return the link to an artifact of a run."""
    return f"{_run(run_id)}/artifacts/{quote(path)}?{MODEL_TRAINING}"


def saved_view_link(run_id: str) -> str:
    """Return the link to the saved view of a comparison in the runs table. See `save_view`.

    Args:
        run_id: Id of the comparison's run.
    """
    return f"#/experiments/{_experiment(run_id)}/runs?{OPENED_VIEW}={run_id}&{MODEL_TRAINING}"


def latest_link() -> str:
    """Return the link to the runs of the experiment with the latest run. Without runs, link to all experiments.

    The start page of MLflow's UI shows neither runs nor models of kdflow, because it is made for language models.
    """
    newest = next(search(experiment_names(), f"tags.`{Tag.KIND}` LIKE '%'", 1), None)
    return f"#/experiments/{_experiment(newest.run_id)}/runs?{MODEL_TRAINING}" if newest else f"#/?{MODEL_TRAINING}"


def compare_link(run_ids: Sequence[str]) -> str:
    """Return the link to the page that compares runs."""
    experiments = list(experiment_names())
    found = MlflowClient().search_runs(experiments, runs_with(run_ids), max_results=len(run_ids))
    of_runs = sorted({run.info.experiment_id for run in found})
    runs, ids = (quote(json.dumps(each, separators=(",", ":"))) for each in (list(run_ids), of_runs))
    return f"#/compare-runs?runs={runs}&experiments={ids}&{MODEL_TRAINING}"


def run_url(run_id: str) -> str | None:
    """Return the address of a run in the MLflow UI. If no UI of the store is known, return None."""
    return address(run_link(run_id))


def version_url(model: str, version: int) -> str | None:
    """Return the address of a model version in the MLflow UI. If no UI of the store is known, return None."""
    return address(f"#/models/{quote(model, safe='')}/versions/{version}")


def _run(run_id: str) -> str:
    return f"#/experiments/{_experiment(run_id)}/runs/{run_id}"


@cache  # the experiment of a run never changes, and each request takes time
def _experiment(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.experiment_id)


def _ui() -> str | None:
    """Return the address of the UI, without a user name, a password or a slash at the end.

    The address is the value of `KD_MLFLOW_UI_URL`. By default, it is the address of the store if the store is a server,
    or the announced address of the UI if the store is local.
    """
    store = mlflow.get_tracking_uri()
    known = os.environ.get(UI_ADDRESS) or store
    if known.startswith(("http://", "https://")):
        parts = urlsplit(known)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return announcement(_name(store))


def _name(store: str) -> str:
    return f"mlflow-ui-{sha256(store.encode()).hexdigest()[:32]}"
