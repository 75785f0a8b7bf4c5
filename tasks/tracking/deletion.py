"""Runs deleted for good, as `mlflow gc` does it: MLflow's own clients only mark them as deleted."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from kdmodels.errors import UnavailableError
from tasks.tracking import alive
from tasks.tracking.lookup import KIND, Run, _experiments, _search

_PAGE = 1_000


def deletes_for_good() -> bool:
    """Whether the store is a database that this process writes to; through a server, runs can only be marked."""
    return hasattr(_store(), "_hard_delete_run")


def every_run() -> list[Run]:
    """All runs of this project, newest first."""
    return _every(ViewType.ACTIVE_ONLY)


def marked_runs() -> list[Run]:
    """Those that were marked as deleted, by a person or by what was interrupted, and are still there."""
    return _every(ViewType.DELETED_ONLY)


def _every(view: int) -> list[Run]:
    names = _experiments()
    return list(_search(names, f"tags.`{KIND}` LIKE '%'", None, view)) if names else []


def registered_runs() -> set[str]:
    """The runs that any version of any registered model was made from."""
    client = MlflowClient()
    found: set[str] = set()
    token: str | None = None
    while True:
        page: Any = client.search_model_versions(max_results=_PAGE, page_token=token)
        for version in page:
            run_id = version.run_id or (_source_run(version.model_id) if version.model_id else None)
            found |= {run_id} if run_id else set()
        token = page.token
        if not token:
            return found


def _source_run(model_id: str) -> str | None:
    try:
        return str(MlflowClient().get_logged_model(model_id).source_run_id)
    except MlflowException:  # the version outlived its model
        return None


def run_bytes(run_id: str) -> int:
    """Of the files of a run and of its models."""
    uri = MlflowClient().get_run(run_id).info.artifact_uri
    return sum(map(_bytes, [uri, *(model.artifact_location for model in _models(run_id))]))


def delete_run(run_id: str) -> None:
    """Delete a run, its files and its models; done again, it goes on where it was interrupted.

    From the first moment on nothing else sees the run. Through a server it is only marked, and keeps its files.

    Raises:
        UnavailableError: a file can't be deleted.
    """
    client, store = MlflowClient(), _store()
    run = client.get_run(run_id)
    client.delete_run(run_id)
    for model in _models(run_id):
        if not deletes_for_good():
            client.delete_logged_model(model.model_id)
            continue
        _delete_files(model.artifact_location)
        store._hard_delete_logged_model(model.model_id)
    if deletes_for_good():
        _delete_files(run.info.artifact_uri)
        store._hard_delete_run(run_id)
    alive.forget(run.data.tags)


def folder_bytes(run_id: str, path: str) -> int:
    """Of the files in that folder of the run; 0 where there is none."""
    return _bytes(f"{MlflowClient().get_run(run_id).info.artifact_uri}/{path}")


def delete_folder(run_id: str, path: str) -> None:
    """Delete that folder of the run for good, wherever it is.

    Raises:
        UnavailableError: a file can't be deleted.
    """
    _delete_files(f"{MlflowClient().get_run(run_id).info.artifact_uri}/{path}")


def delete_tag(run_id: str, tag: str) -> None:
    """Take a tag away, if the run has it."""
    if tag in MlflowClient().get_run(run_id).data.tags:
        MlflowClient().delete_tag(run_id, tag)


def _models(run_id: str) -> list[LoggedModel]:
    """All that were begun for the run, whole or not."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'"))


def _bytes(uri: str) -> int:
    if is_local_uri(uri):
        return sum(file.stat().st_size for file in Path(local_file_uri_to_path(uri)).rglob("*") if file.is_file())
    return sum(_listed(get_artifact_repository(uri), None))


def _listed(repository: Any, path: str | None) -> Iterator[int]:
    for info in repository.list_artifacts(path):
        if info.is_dir:
            yield from _listed(repository, info.path)
        else:
            yield info.file_size or 0


def _delete_files(uri: str) -> None:
    try:
        if is_local_uri(uri):
            folder = Path(local_file_uri_to_path(uri))
            if folder.exists():
                shutil.rmtree(folder)
            if folder.parent.is_dir() and folder.name == "artifacts" and not any(folder.parent.iterdir()):
                folder.parent.rmdir()  # the run's own folder, or the model's
        else:
            get_artifact_repository(uri).delete_artifacts()
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or uri}: can't be deleted: {error.strerror}; allowed: files that this user may delete"
        ) from error


def _store() -> Any:
    return MlflowClient()._tracking_client.store
