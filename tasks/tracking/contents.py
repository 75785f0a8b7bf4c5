"""What a run and a stored model hold, without loading it."""

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

FORMAT, ONNX = "kd.format", "onnx"  # the tag of a logged model, and its value where the model is an ONNX file


def artifact_names(run_id: str) -> list[str]:
    """The files and folders at the root of a run's artifacts, in order of name."""
    return sorted(info.path for info in MlflowClient().list_artifacts(run_id))


def model_id(run_id: str) -> str | None:
    """Return the id of the run's finished ONNX model; None where it has none.

    An interrupted run may have an unfinished one too, and a run of an earlier version of kdflow one of another format.
    """
    outputs = MlflowClient().get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    return next((id_ for id_ in ids if _is_served(id_)), None)


def _is_served(id_: str) -> bool:
    try:
        model = MlflowClient().get_logged_model(id_)
        return bool(model.status == LoggedModelStatus.READY and model.tags.get(FORMAT) == ONNX)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it was deleted
            raise
        return False


def model_uri(run_id: str) -> str | None:
    """The `models:/m-…` URI of the run's model; None where it has none."""
    id_ = model_id(run_id)
    return f"models:/{id_}" if id_ else None
