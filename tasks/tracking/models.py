"""Trained networks as MLflow models that serve and load with torch and mlflow alone, without pickle."""

import json
import re
import threading
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from kdmodels.errors import UserError
from kdmodels.garbage import uncollected
from kdmodels.temporary import temporary_folder
from tasks.tracking.artifacts import sync_tree

if TYPE_CHECKING:
    import torch

MODEL = "model"  # every run's model has this name
_SYMPY = "Integer|Rational|Add|Mul|Pow|Min|Max|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not"
_EXPRESSION = re.compile(  # the names that torch writes of a program's sizes, and no others
    rf"(?:Symbol\('\w+'(?:, (?:positive|integer|nonnegative)=True)*\)|\b(?:{_SYMPY})\(|[0-9 ()+*,-])+"
)
_GUARD = re.compile(  # of a size that a program's input must have
    rf"(?:L(?:\['\w+'\]|\[\d+\])+(?:\.size\(\)\[\d+\])?|\b(?:and|or|not)\b|\b(?:{_SYMPY})\(|[\d\s()<>=!+\-*/%.,])+"
)
_PT2 = (
    threading.Lock()
)  # in one process, two threads that write or read pt2 files at once fail; training meanwhile is fine


def log_model(run_id: str, module: "torch.nn.Module", example: np.ndarray, *, metadata: dict[str, Any]) -> str:
    """Store a classifier as the run's model, unless it has one, in PyTorch's pt2 format; its `models:/m-…` URI.

    Built from the client's parts, since `mlflow.pytorch.log_model` needs an active run, loads and runs the model once
    more, and reads back the history of each of the run's metrics.

    Args:
        module: on the CPU and in eval mode, for both are frozen into the exported program. Used by no other thread
            meanwhile: the export puts placeholders into it in place of its weights.
        example: (N, C, H, W) float32 inputs, N >= 2, for a batch of one would be frozen in too.
        metadata: JSON-able; stands in the MLmodel file.
    Raises:
        ValueError: the module or the example is not as said.
    """
    import mlflow.pytorch  # both take seconds, which `kd list` need not pay
    import torch

    if module.training or any(tensor.device.type != "cpu" for tensor in module.state_dict().values()):
        raise ValueError("a module must be on the CPU and in eval mode to be exported")
    if example.ndim != 4 or len(example) < 2 or example.dtype != np.float32:
        raise ValueError(f"example must be float32 (N >= 2, C, H, W), not {example.dtype} {example.shape}")
    client = MlflowClient()
    run = client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else []:
        if client.get_logged_model(output.model_id).status == LoggedModelStatus.READY:  # the run was interrupted since
            return f"models:/{output.model_id}"
    prepare_models()
    with torch.no_grad():
        classes = module(torch.from_numpy(example)).shape[1]
    model = client.create_logged_model(
        run.info.experiment_id, name=MODEL, source_run_id=run_id, model_type="classifier"
    )
    try:
        with temporary_folder() as folder:
            path = folder / MODEL
            description = Model(
                artifact_path=model.artifact_location, model_uuid=model.model_id, model_id=model.model_id, run_id=run_id
            )
            with _PT2:
                mlflow.pytorch.save_model(
                    module,
                    str(path),
                    mlflow_model=description,
                    signature=ModelSignature(
                        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, *example.shape[1:]), name=None)]),
                        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, classes), name=None)]),
                    ),
                    input_example=example,
                    pip_requirements=[_pinned(package) for package in ("mlflow", "numpy", "torch")],
                    metadata=metadata,
                    serialization_format="pt2",
                )
            # An exported program can't change device; without this, pyfunc wants it on the GPU where there is one.
            description.flavors["python_function"]["config"] = {"device": "cpu"}
            description.save(str(path / "MLmodel"))
            client.log_model_artifacts(model.model_id, str(path))
        sync_tree(model.artifact_location)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    return f"models:/{model.model_id}"


@cache
def prepare_models() -> None:
    """Pay for this process's first export: imports and caches, some 2 s, whatever the network."""
    with _PT2, uncollected():
        import torch

        torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(2, 1),))


def load_predictor(uri: str) -> Callable[[np.ndarray], np.ndarray]:
    """The stored model as a function of (N, C, H, W) float32 images to (N, classes) logits.

    Raises:
        UserError: it can't be read, or is not as `log_model` stores it: another kind could run code of its own.
    """
    from mlflow import pyfunc

    try:
        folder = Path(download_artifacts(uri))
        _require_no_code(folder)
        with _PT2:
            predict: Callable[[np.ndarray], np.ndarray] = pyfunc.load_model(str(folder)).predict
    except Exception as error:  # a damaged file fails in many ways
        told = error.message if isinstance(error, MlflowException) else str(error)
        line = (told.strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"model {uri!r} can't be loaded without running code from it: {line}") from error
    return predict


def _require_no_code(folder: Path) -> None:
    """Refuse what MLflow or torch would run; MLflow itself refuses pickles, as it is set in `environment`.

    Raises:
        ValueError: the model has a loader or code of its own, or is no program, or its sizes are not plain expressions.
    """
    flavors = Model.load(str(folder / "MLmodel")).flavors
    function, own = flavors.get("python_function", {}), flavors.get("pytorch", {})
    loader = function.get("loader_module"), function.get("data")
    if loader != ("mlflow.pytorch", "data"):
        raise ValueError(f"its loader and its data are {loader}; allowed: ('mlflow.pytorch', 'data')")
    if function.get("code") or own.get("code"):
        raise ValueError("it brings code of its own; allowed: a model of a kd run")
    if [path.name for path in (folder / "data").iterdir()] != ["model.pt2"]:
        raise ValueError("it is not one torch program; allowed: a model of a kd run")
    with zipfile.ZipFile(folder / "data" / "model.pt2") as program:
        names = program.namelist()
        if len(set(names)) != len(names):
            raise ValueError("its program has two files of one name, of which torch may read the other")
        for name in names:
            if name.endswith(".json"):
                _require_plain(name, json.loads(program.read(name)))


def _require_plain(name: str, part: Any) -> None:
    """Refuse what torch would evaluate as Python but for sizes and comparisons of sizes.

    Raises:
        ValueError: there is more.
    """
    if isinstance(part, dict):
        for key, pattern in (("expr_str", _EXPRESSION), ("guards_code", _GUARD)):
            texts = part.get(key, [])
            for text in texts if isinstance(texts, list) else [texts]:
                if not (isinstance(text, str) and pattern.fullmatch(text)):
                    raise ValueError(f"{name} has {key} {text!r}, which is no plain expression of sizes")
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _require_plain(name, inner)


def _pinned(package: str) -> str:
    """The installed version, without a local part like `+cu128`, which only some indexes know."""
    return f"{package}=={version(package).split('+')[0]}"
