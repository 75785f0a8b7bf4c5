"""Functions that delete runs permanently, as `mlflow gc` does. MLflow's own clients only mark runs as deleted."""

import shutil
from collections.abc import Collection, Iterator

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from kdmodels.errors import UnavailableError
from kdmodels.files import folders
from tasks.tracking import alive, mlflow_internals
from tasks.tracking.lookup import PAGE, Run, experiment_names, search
from tasks.tracking.mlflow_internals import deletes_for_good
from tasks.tracking.registry import Version, versions
from tasks.tracking.tags import Tag


def every_run() -> list[Run]:
    """Return all runs of kdflow that are not marked as deleted, newest first."""
    return _every(ViewType.ACTIVE_ONLY)


def marked_runs() -> list[Run]:
    """Return the runs that still exist but are marked as deleted, either by a user or by an interrupted deletion."""
    return _every(ViewType.DELETED_ONLY)


def _every(view: int) -> list[Run]:
    names = experiment_names()
    return list(search(names, f"tags.`{Tag.KIND}` LIKE '%'", None, view)) if names else []


def registered_runs() -> set[str]:
    """Return the ids of the runs that stored the registered models. All versions of each model are included."""
    return {run_id for version in _every_version() if (run_id := _run_of(version))}


def versions_of(run_ids: Collection[str]) -> list[Version]:
    """Return the versions of registered models that these runs stored or whose comparison is one of these runs.

    The newest version of each model comes first.
    """
    entities = [
        entity
        for entity in _every_version()
        if _run_of(entity) in run_ids or entity.tags.get(Tag.COMPARISON) in run_ids
    ]
    numbers = {(entity.name, int(entity.version)) for entity in entities}
    names = sorted({name for name, _ in numbers})
    return [version for name in names for version in versions(name) if (name, version.version) in numbers]


def delete_version(version: Version) -> None:
    """Delete a version of a registered model, with its aliases. The model keeps its record of looks at test splits."""
    MlflowClient().delete_model_version(version.model, str(version.version))


def _every_version() -> Iterator[ModelVersion]:
    client = MlflowClient()
    token: str | None = None
    while True:
        page = client.search_model_versions(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _run_of(version: ModelVersion) -> str | None:
    return version.run_id or (_source_run(version.model_id) if version.model_id else None)


def _source_run(model_id: str) -> str | None:
    try:
        return str(MlflowClient().get_logged_model(model_id).source_run_id)
    except MlflowException:  # the logged model was deleted, but the model version still exists
        return None


def run_bytes(run_id: str) -> int:
    """Return the total size in bytes of the files of a run and its models."""
    uri = MlflowClient().get_run(run_id).info.artifact_uri
    return sum(map(_bytes, [uri, *(model.artifact_location for model in _models(run_id))]))


def delete_run(run_id: str) -> None:
    """Delete a run, its files and its models. If the deletion was interrupted, a second call completes it.

    The run is first marked as deleted, which hides it from all other commands. If the store is a server, the run is
    only marked as deleted, and its files are kept.

    Raises:
        UnavailableError: A file can't be deleted, or the server does not allow this user to delete the run.
    """
    client = MlflowClient()
    run = client.get_run(run_id)
    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        raise UnavailableError(
            f"run {run_id!r} can't be deleted: the MLflow server does not allow it to this user; allowed: the user who "
            "created its experiment, and the admin"
        ) from error
    for model in _models(run_id):
        if not deletes_for_good():
            client.delete_logged_model(model.model_id)
            continue
        _delete_files(model.artifact_location)
        mlflow_internals.hard_delete_model(model.model_id)
    if deletes_for_good():
        _delete_files(run.info.artifact_uri)
        mlflow_internals.hard_delete_run(run_id)
    alive.forget(run.data.tags)


def folder_bytes(run_id: str, path: str) -> int:
    """Return the size of a folder of a run's artifacts in bytes. If the folder does not exist, return 0."""
    return _bytes(f"{MlflowClient().get_run(run_id).info.artifact_uri}/{path}")


def delete_folder(run_id: str, path: str) -> None:
    """Delete a folder of a run's artifacts permanently, whether the store is local or a server.

    Raises:
        UnavailableError: A file can't be deleted.
    """
    _delete_files(f"{MlflowClient().get_run(run_id).info.artifact_uri}/{path}")


def delete_tag(run_id: str, tag: str) -> None:
    """Delete a tag of a run. If the run does not have the tag, do nothing."""
    if tag in MlflowClient().get_run(run_id).data.tags:
        MlflowClient().delete_tag(run_id, tag)


def _models(run_id: str) -> list[LoggedModel]:
    """Return all models of a run, including models whose files are incomplete."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'"))


def _bytes(uri: str) -> int:
    folder = mlflow_internals.local_path(uri)
    return folders.folder_bytes(folder) if folder else sum(mlflow_internals.file_sizes(uri))


def _delete_files(uri: str) -> None:
    folder = mlflow_internals.local_path(uri)
    try:
        if folder is None:
            mlflow_internals.delete_artifacts(uri)
            return
        if folder.exists():
            shutil.rmtree(folder)
        if folder.parent.is_dir() and folder.name == "artifacts" and not any(folder.parent.iterdir()):
            folder.parent.rmdir()  # the parent is the folder of the run or model
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or uri}: can't be deleted: {error.strerror}; allowed: files that this user may delete"
        ) from error
