"""Trained networks as MLflow models: one ONNX file, which needs onnxruntime and neither torch nor kdflow."""

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from onnx import ModelProto

from kdmodels.garbage import uncollected
from kdmodels.serving.checks import OUTPUT, image_shape
from kdmodels.temporary import temporary_folder
from tasks.tracking.artifacts import sync_tree
from tasks.tracking.contents import FORMAT, ONNX, model_id
from tasks.tracking.served import FILE

MODEL = "model"  # every run's model has this name
REQUIREMENTS = ["mlflow>=3.0,<4", "numpy>=1.26,<3", "onnx>=1.16,<2", "onnxruntime>=1.15,<2"]  # both ends were tried


def log_model(run_id: str, content: bytes, example: np.ndarray) -> str:
    """Store an ONNX file as the run's model, unless the run has one; return its `models:/m-…` URI.

    Built from the client's parts, since `mlflow.onnx.log_model` needs an active run, loads and runs the model once
    more, and reads back the history of each of the run's metrics.

    Args:
        content: the file, as `kdmodels.serving.graph.fill` makes it. example: (N, C, H, W) float32 inputs.

    Raises:
        ValueError: the example is not as said.
    """
    import mlflow.onnx  # takes a second, which `kd list` need not pay

    model = ModelProto.FromString(content)
    shape = image_shape(model.graph)
    if example.shape[1:] != shape or example.dtype != np.float32:
        raise ValueError(
            f"example must be float32 (N, {', '.join(map(str, shape))}), not {example.dtype} {example.shape}"
        )
    stored = model_id(run_id)
    if stored is not None:  # the run was interrupted since
        return f"models:/{stored}"
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    client = MlflowClient()
    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name=MODEL, source_run_id=run_id, model_type="classifier", tags={FORMAT: ONNX}
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
                raise ValueError("MLflow wrote another ONNX file than the one that was checked")
            client.log_model_artifacts(logged.model_id, str(path))
        sync_tree(logged.artifact_location)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    return f"models:/{logged.model_id}"


def prepare_models() -> None:
    """Pay for this process's first recorded model: imports, some 2 s."""
    with uncollected():
        import mlflow.onnx  # noqa: F401
