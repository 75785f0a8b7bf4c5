"""Functions that store trained networks as MLflow models.

Each model is an ONNX file. Users of the model need onnxruntime, but neither torch nor kdflow.
"""

from collections.abc import Mapping

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from onnx import ModelProto

from kdmodels.files.temporary import temporary_folder
from kdmodels.garbage_collection import gc_paused
from kdmodels.serving.tensor_sizes import fixed_shape
from tasks.tracking.artifacts import sync_tree
from tasks.tracking.contents import ONNX, model_id
from tasks.tracking.served import FILE
from tasks.tracking.tags import Tag

MODEL = "model"  # name of the model in every run
# The oldest and the newest version in each range were tested.
REQUIREMENTS = ["mlflow>=3.0,<4", "numpy>=1.26,<3", "onnx>=1.16,<2", "onnxruntime>=1.15,<2"]


def log_model(
    run_id: str, content: bytes, example: np.ndarray | Mapping[str, np.ndarray], *, kind: str = "classifier"
) -> str:
    """Store an ONNX file as the model of a run, and return the model's `models:/m-…` URI.

    If the run already has a model, return the URI of this model.

    This function does not call `mlflow.onnx.log_model`, because that function needs an active run, loads and runs the
    model again, and reads the history of each metric of the run.

    Args:
        run_id: Id of the run.
        content: Content of the ONNX file, from `kdmodels.serving.graph.fill`.
        example: An example of the input, float32, e.g. images (N, C, H, W). If the model has several inputs, an example
            of each input by name.
        kind: The kind of the model, which the MLflow UI shows: `classifier` or `generator`.

    Raises:
        ValueError: An example does not have the shape and type of the model's input.
    """
    import mlflow.onnx  # noqa: PLC0415 - takes a second, and only training needs it

    model = ModelProto.FromString(content)
    _require_examples(model, example)
    stored = model_id(run_id)
    if stored is not None:  # the run was interrupted after the model was stored
        return f"models:/{stored}"
    client = MlflowClient()
    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name=MODEL, source_run_id=run_id, model_type=kind, tags={Tag.FORMAT: ONNX}
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
                signature=_signature(model),
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


def _require_examples(model: ModelProto, example: np.ndarray | Mapping[str, np.ndarray]) -> None:
    examples = example if isinstance(example, Mapping) else {model.graph.input[0].name: example}
    for value in model.graph.input:
        shape, given = fixed_shape(value), examples[value.name]
        if given.shape[1:] != shape or given.dtype != np.float32:
            raise ValueError(
                f"example must be float32 (N, {', '.join(map(str, shape))}), not {given.dtype} {given.shape}"
            )


def _signature(model: ModelProto) -> ModelSignature:
    """Return the MLflow signature of a model. A single input gets no name, so that users can pass an array."""
    inputs, (output,) = model.graph.input, model.graph.output
    names = [value.name for value in inputs] if len(inputs) > 1 else [None]
    number = np.dtype("float32")
    return ModelSignature(
        inputs=Schema(
            [TensorSpec(number, (-1, *fixed_shape(value)), name) for value, name in zip(inputs, names, strict=True)]
        ),
        outputs=Schema([TensorSpec(number, (-1, *fixed_shape(output)), output.name)]),
    )


def prepare_models() -> None:
    """Import the modules that `log_model` needs. Without this call, the first `log_model` takes about 2 s longer."""
    with gc_paused():
        import mlflow.onnx  # noqa: F401, PLC0415 - as in `log_model`
