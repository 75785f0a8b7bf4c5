"""Functions that read what a run contains, without loading its model."""

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from tasks.tracking.tags import Tag

ONNX = "onnx"  # value of the tag `Tag.FORMAT` if a logged model is an ONNX file


def artifact_names(run_id: str) -> list[str]:
    """Return the sorted names of the files and folders at the root of a run's artifacts."""
    return sorted(info.path for info in MlflowClient().list_artifacts(run_id))


def model_id(run_id: str) -> str | None:
    """Return the id of a run's ONNX model. If the run has no complete ONNX model, return None.

    An interrupted run may also have an incomplete model. A run of an earlier version of kdflow may have a model in
    another format.
    """
    outputs = MlflowClient().get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    return next((id_ for id_ in ids if _is_served(id_)), None)


def _is_served(id_: str) -> bool:
    try:
        model = MlflowClient().get_logged_model(id_)
        return bool(model.status == LoggedModelStatus.READY and model.tags.get(Tag.FORMAT) == ONNX)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # this code means that the model was deleted
            raise
        return False


def model_uri(run_id: str) -> str | None:
    """Return the `models:/m-…` URI of a run's ONNX model. If the run has no complete ONNX model, return None."""
    id_ = model_id(run_id)
    return f"models:/{id_}" if id_ else None
