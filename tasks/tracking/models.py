"""Functions that store trained networks as MLflow models.

Each model is an ONNX file. Users of the model need onnxruntime, but neither torch nor kdflow.
"""

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from onnx import ModelProto

from kdmodels.files.temporary import temporary_folder
from kdmodels.garbage_collection import gc_paused
from kdmodels.serving.tensor_sizes import OUTPUT, image_shape
from tasks.tracking.artifacts import sync_tree
from tasks.tracking.contents import ONNX, model_id
from tasks.tracking.served import FILE
from tasks.tracking.tags import Tag

MODEL = "model"  # name of the model in every run
# The oldest and the newest version in each range were tested.
REQUIREMENTS = ["mlflow>=3.0,<4", "numpy>=1.26,<3", "onnx>=1.16,<2", "onnxruntime>=1.15,<2"]


def log_model(run_id: str, content: bytes, example: np.ndarray) -> str:
    """Store an ONNX file as the model of a run, and return the model's `models:/m-…` URI.

    If the run already has a model, return the URI of this model.

    This function does not call `mlflow.onnx.log_model`, because that function needs an active run, loads and runs the
    model again, and reads the history of each metric of the run.

    Args:
        run_id: Id of the run.
        content: Content of the ONNX file, from `kdmodels.serving.graph.fill`.
        example: Images of type float32 and shape (N, C, H, W).

    Raises:
        ValueError: The example does not have the shape and type of the model's input.
    """
    import mlflow.onnx  # noqa: PLC0415 - takes a second, and only training needs it

    model = ModelProto.FromString(content)
    shape = image_shape(model.graph)
    if example.shape[1:] != shape or example.dtype != np.float32:
        raise ValueError(
            f"example must be float32 (N, {', '.join(map(str, shape))}), not {example.dtype} {example.shape}"
        )
    stored = model_id(run_id)
    if stored is not None:  # the run was interrupted after the model was stored
        return f"models:/{stored}"
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    client = MlflowClient()
    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name=MODEL, source_run_id=run_id, model_type="classifier", tags={Tag.FORMAT: ONNX}
    )
    try:
        with temporary_folder() as folder:
            path = folder / MODEL
            mlflow.onnx.save_model(
                model,
                str(path),
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                    run_id=run_id,
                ),
                signature=ModelSignature(
                    inputs=Schema([TensorSpec(np.dtype("float32"), (-1, *shape), name=None)]),
                    outputs=Schema([TensorSpec(np.dtype("float32"), (-1, classes), name=OUTPUT)]),
                ),
                input_example=example,
                pip_requirements=REQUIREMENTS,
                onnx_execution_providers=["CPUExecutionProvider"],
                metadata={prop.key: prop.value for prop in model.metadata_props},
                save_as_external_data=False,
            )
            if (path / FILE).read_bytes() != content:
                raise ValueError("MLflow wrote an ONNX file that differs from the checked one")
            client.log_model_artifacts(logged.model_id, str(path))
        sync_tree(logged.artifact_location)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return f"models:/{logged.model_id}"


def prepare_models() -> None:
    """Import the modules that `log_model` needs. Without this call, the first `log_model` takes about 2 s longer."""
    with gc_paused():
        import mlflow.onnx  # noqa: F401, PLC0415 - as in `log_model`
