"""Stored models as they are served: of all that a model's folder holds, only the ONNX file is read."""

from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from kdmodels.errors import UserError
from kdmodels.serving.checks import RefusedError
from kdmodels.serving.model_file import ServedModel, read_file
from kdmodels.temporary import temporary_folder

FILE = "model.onnx"
OLD = "data"  # the folder in which earlier versions of kdflow stored a torch program


def load_model(uri: str, threads: int | None = None) -> ServedModel:
    """Load a stored model as a function of (N, C, H, W) float32 images to (N, K) logits.

    Args:
        uri: as of `read_model`. threads: of onnxruntime; None: as many as there are cores.

    Raises:
        UserError: there is no such model, or its file is not one that kdflow serves.
    """
    content = read_model(uri)
    try:
        return ServedModel(content, threads)
    except RefusedError as error:
        raise UserError(f"model {uri!r} is refused: {error}") from error


def has_file(uri: str) -> bool:
    """Return whether a stored model has an ONNX file."""
    return FILE in _names(_location(uri)[0])


def read_model(uri: str) -> bytes:
    """Read the ONNX file of a stored model, and nothing else of it: whatever else is stored there is ignored.

    Args:
        uri: `models:/m-…` or `models:/NAME/VERSION`.

    Raises:
        UserError: there is no such model, it is of another format, or its file is not a regular one.
    """
    try:
        location, run_id = _location(uri)
        names = _names(location)
        if FILE not in names:
            raise UserError(f"model {uri!r} {_other_format(names, run_id)}")
        if is_local_uri(location):
            return read_file(Path(local_file_uri_to_path(location)) / FILE)
        with temporary_folder() as folder:
            return read_file(Path(download_artifacts(f"{location}/{FILE}", dst_path=str(folder))))
    except RefusedError as error:
        raise UserError(f"model {uri!r} is refused: {error}") from error
    except UserError:
        raise
    except Exception as error:  # MLflow's clients of other stores raise errors of many kinds
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"model {uri!r} can't be read: {line}") from error


def _location(uri: str) -> tuple[str, str | None]:
    """Return the URI of the folder in which a model's files are, and the id of the run that made it."""
    client = MlflowClient()
    word = uri.removeprefix("models:/")
    run_id: str | None = None
    if "/" in word:
        name, _, number = word.rpartition("/")
        version = client.get_model_version(name, number)
        run_id, source = version.run_id or None, str(version.source)
        if not source.startswith("models:/"):
            return source, run_id
        word = source.removeprefix("models:/")
    logged = client.get_logged_model(word)
    return str(logged.artifact_location), run_id or logged.source_run_id


def _names(location: str) -> set[str]:
    return {PurePosixPath(info.path).name for info in list_artifacts(artifact_uri=location)}


def _other_format(names: set[str], run_id: str | None) -> str:
    """Say why a model without an ONNX file is not served, and how an earlier version's model becomes one that is."""
    if OLD not in names:
        return f"has no {FILE}; it was not made by kdflow"
    again = f"kd promote {run_id[:8]}" if run_id else "kd promote RUN"
    return f"is a torch program (pt2), which kdflow does not load; register it again from its stored weights: {again}"
