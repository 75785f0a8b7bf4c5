"""Functions that load stored models. Only the ONNX file in a model's folder is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts

from kdmodels.errors import UserError
from kdmodels.files.temporary import temporary_folder
from kdmodels.serving.generator_file import ServedGenerator
from kdmodels.serving.model_file import ServedModel, read_file
from kdmodels.serving.refusal import RefusedError
from tasks.tracking.mlflow_internals import local_path

FILE = "model.onnx"
OLD = "data"  # the folder where earlier versions of kdflow stored a torch program


def load_model(uri: str, threads: int | None = None) -> ServedModel:
    """Load a stored model as a function from float32 images (N, C, H, W) to logits (N, K).

    Args:
        uri: URI of the model, in a form that `read_model` accepts.
        threads: Number of threads that onnxruntime uses. Default: the number of cores.

    Raises:
        UserError: The model does not exist, or kdflow refuses to serve its file.
    """
    content = read_model(uri)
    with _refusals_of(uri):
        return ServedModel(content, threads)


def load_generator(uri: str, threads: int | None = None) -> ServedGenerator:
    """Load a stored generator as a function from codes (N, D) to images (N, C, H, W) in [0, 1].

    The arguments and errors are those of `load_model`.
    """
    content = read_model(uri)
    with _refusals_of(uri):
        return ServedGenerator(content, threads)


@contextmanager
def _refusals_of(uri: str) -> Iterator[None]:
    """Convert a RefusedError that the `with` block raises to a UserError that names the model."""
    try:
        yield
    except RefusedError as error:
        raise UserError(f"model {uri!r} is refused: {error}") from error


def has_file(uri: str) -> bool:
    """Return whether a stored model has an ONNX file."""
    return FILE in _names(_location(uri)[0])


def read_model(uri: str) -> bytes:
    """Read the ONNX file of a stored model, and ignore all other files in the model's folder.

    Args:
        uri: URI of the model, `models:/m-…` or `models:/NAME/VERSION`.

    Raises:
        UserError: The model does not exist, the model has another format, or its file is not a regular file.
    """
    try:
        location, run_id = _location(uri)
        names = _names(location)
        if FILE not in names:
            raise UserError(f"model {uri!r} {_other_format(names, run_id)}")
        if folder := local_path(location):
            return read_file(folder / FILE)
        with temporary_folder() as downloads:
            return read_file(Path(download_artifacts(f"{location}/{FILE}", dst_path=str(downloads))))
    except RefusedError as error:
        raise UserError(f"model {uri!r} is refused: {error}") from error
    except UserError:
        raise
    except Exception as error:  # MLflow's clients for other stores raise many types of errors
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"model {uri!r} can't be read: {line}") from error


def _location(uri: str) -> tuple[str, str | None]:
    """Return the URI of a model's folder, and the id of the run that stored the model.

    If the run is unknown, the id is None.
    """
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
    """Explain why kdflow does not serve a model without an ONNX file.

    If an earlier version of kdflow stored the model, also explain how to convert the model.
    """
    if OLD not in names:
        return f"has no {FILE}; it was not made by kdflow"
    again = f"kd promote {run_id[:8]}" if run_id else "kd promote RUN"
    return f"is a torch program (pt2), which kdflow does not load; register it again from its stored weights: {again}"
