"""What a run and a stored model hold, without loading it."""

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from kdmodels.errors import UserError


@dataclass(frozen=True)
class ModelCard:
    """What a classifier of images takes and tells apart; `input_shape` is (C, H, W)."""

    input_shape: tuple[int, int, int]
    classes: list[str]


def artifact_names(run_id: str) -> list[str]:
    """The files and folders at the root of a run's artifacts, in order of name."""
    return sorted(info.path for info in MlflowClient().list_artifacts(run_id))


def model_id(run_id: str) -> str | None:
    """The id of the run's finished model; of one that was interrupted while it was stored there may be another."""
    outputs = MlflowClient().get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    return next((id_ for id_ in ids if _is_ready(id_)), None)


def _is_ready(id_: str) -> bool:
    try:
        return bool(MlflowClient().get_logged_model(id_).status == LoggedModelStatus.READY)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it was deleted
            raise
        return False


def model_uri(run_id: str) -> str | None:
    """The `models:/m-…` URI of the run's model; None where it has none."""
    id_ = model_id(run_id)
    return f"models:/{id_}" if id_ else None


def model_card(uri: str) -> ModelCard:
    """Read the model's signature and metadata, which `log_model` wrote.

    Raises:
        UserError: no such model, or it is not a classifier of images that kdflow made.
    """
    try:
        model = Model.load(uri)
    except MlflowException as error:
        raise UserError(f"model {uri!r} can't be read: {error.message.splitlines()[0]}") from error
    shapes = [tuple(spec.shape or ()) for spec in model.signature.inputs.inputs] if model.signature else []
    classes = (model.metadata or {}).get("classes")
    if len(shapes) != 1 or len(shapes[0]) != 4 or classes is None:
        raise UserError(f"model {uri!r} was not made by kdflow: its signature and metadata name no images and classes")
    return ModelCard(input_shape=shapes[0][1:], classes=list(classes))
