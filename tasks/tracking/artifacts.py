"""A run's files."""

import functools
import json
import multiprocessing.util
import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from kdmodels.durable import sync
from kdmodels.errors import UserError
from kdmodels.temporary import temporary_folder

if TYPE_CHECKING:
    import pandas as pd


def log_text(run_id: str, path: str, text: str) -> None:
    """Store text as that file of the run."""
    MlflowClient().log_text(run_id, text, path)


def log_json(run_id: str, path: str, value: Any) -> None:
    """Store a JSON-able value; anything else raises TypeError, instead of being stored as its repr."""
    log_text(run_id, path, json.dumps(value, indent=2))


def log_table(run_id: str, path: str, frame: "pd.DataFrame") -> None:
    """Store a table as CSV, which the UI shows as a table."""
    log_text(run_id, path, frame.to_csv(index=False))


def log_folder(run_id: str, folder: Path, path: str | None = None) -> None:
    """Store all files of a local folder under `path`, the run's root by default."""
    MlflowClient().log_artifacts(run_id, str(folder), path)


def sync_artifacts(run_id: str) -> None:
    """Have the system write a local store's files of the run to the disk, before the run is said to have them."""
    sync_tree(_root(run_id))


def sync_tree(uri: str) -> None:
    """The same of a folder; those of a server are its own to keep."""
    if is_local_uri(uri):
        for path in Path(local_file_uri_to_path(uri)).rglob("*"):
            sync(path)


def has_artifact(run_id: str, path: str) -> bool:
    """Whether the run has that file or folder."""
    root = _root(run_id)
    if is_local_uri(root):
        return (Path(local_file_uri_to_path(root)) / path).exists()
    folder = str(PurePosixPath(path).parent)
    listed = MlflowClient().list_artifacts(run_id, None if folder == "." else folder)
    return path in {info.path for info in listed}


def artifact(run_id: str, path: str) -> Path:
    """A local path of that file or folder: the stored one itself in a local store, else a copy kept until exit.

    Raises:
        UserError: the run has no such file, or it is a pipe or device.
    """
    root = _root(run_id)
    if is_local_uri(root):  # MLflow would read the run twice more
        found = Path(local_file_uri_to_path(root)) / path
        if found.exists() and not found.is_file() and not found.is_dir():  # a pipe or device never ends
            raise UserError(f"run {run_id!r}: its file {path!r} is not a regular file")
        if found.exists():
            return found
    elif has_artifact(run_id, path):
        return Path(download_artifacts(f"{root}/{path}", dst_path=tempfile.mkdtemp(dir=_downloads())))
    raise UserError(f"run {run_id!r} has no file {path!r}")


def read_json(run_id: str, path: str) -> Any:
    """The value that `log_json` stored.

    Raises:
        UserError: the run has no such file, or it is not JSON.
    """
    try:
        return json.loads(artifact(run_id, path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"run {run_id!r}: its file {path!r} is not JSON: {error}") from error


def _root(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.artifact_uri)


@functools.cache
def _downloads() -> Path:
    """MLflow's own temporary folders for downloads stay for ever; this one, until exit."""
    until_exit = ExitStack()
    multiprocessing.util.Finalize(None, until_exit.close, exitpriority=0)  # workers run these, and no atexit
    return until_exit.enter_context(temporary_folder())
