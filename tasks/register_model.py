"""register_model: make a model from elsewhere the champion that the next student has to beat."""

from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper
from prefect import task
from prefect.cache_policies import NO_CACHE

from kdmodels.errors import UsageError, UserError
from kdmodels.evaluation.predictions import served_logits
from kdmodels.experiment import Experiment
from kdmodels.serving.foreign_file import served_content
from kdmodels.serving.model_file import ServedModel, read_file
from kdmodels.serving.refusal import RefusedError
from tasks import tracking
from tasks.execution.team_locks import team_exclusive
from tasks.measure_costs import measured
from tasks.prepare_data import load
from tasks.references import DataReference, Reference
from tasks.results import ACCURACY, SIZE
from tasks.tracking.models import log_model
from tasks.tracking.tags import Tag

ONNX = ".onnx"  # suffix of a file that is registered as it is. Any other file holds the weights of a network
KIND = "teacher"  # kind of the run: a network that was not distilled here
REGISTERED = "registered"  # value of `Tag.KIND` of the version


class RegisteredModel(Reference):
    """A model from elsewhere that is now a champion.

    Attributes:
        accuracy: The accuracy on the validation split, from 0 to 1.
    """

    model: str
    version: int
    run_id: str
    accuracy: float


@task(task_run_name="record_onnx {experiment.name}", cache_policy=NO_CACHE)
def record_onnx(file: str, experiment: Experiment, data: DataReference) -> str:
    """Store an ONNX file in a new run, measure its accuracy on validation and its costs, and return the run's id.

    Args:
        file: The path of an ONNX file that takes float32 images (N, C, H, W) in [0, 1].
        data: The data on which the model is compared. If the file does not name its classes, its outputs must be the
            classes of the data, in the same order.

    Raises:
        UserError: The file can't be read or served, or does not fit the shape or the classes of the data.
    """
    tracking.configure()
    dataset = load(data)
    try:
        content = served_content(read_file(Path(file)), data.classes)
        served = ServedModel(content)
    except RefusedError as error:
        raise UserError(f"{file}: can't be registered: {error}") from error
    if served.input_shape != data.input_shape:
        raise UserError(
            f"{file}: takes images of {served.input_shape}, but {data.data.source} has {data.input_shape}. Allowed: a "
            "model for images of the same shape"
        )
    if missing := [name for name in data.classes if name not in served.classes]:
        raise UserError(f"{file}: does not know the classes {', '.join(missing)} of {data.data.source}")
    order = [served.classes.index(name) for name in data.classes]
    right = served_logits(served, dataset.validation)[:, order].argmax(axis=1) == dataset.validation.labels.numpy()
    weights = [numpy_helper.to_array(tensor) for tensor in served.model.graph.initializer]
    run_id = tracking.start(
        experiment.name,
        Path(file).stem,
        KIND,
        params={"file": file, "file.digest": sha256(content).hexdigest(), "threads": torch.get_num_threads()},
        tags={Tag.VARIANT: Path(file).stem, Tag.SEEDS: "[0]", Tag.VERSION: version_of("kdflow")},
    )
    with tracking.recording(run_id):
        log_model(run_id, content, np.zeros((2, *served.input_shape), dtype=np.float32))
        size = sum(weight.size for weight in weights if weight.dtype == np.float32)
        figures = {ACCURACY: float(right.mean()), SIZE: size, "size/file_mb": len(content) / 1e6}
        tracking.log_metrics(run_id, [(name, value, 0) for name, value in figures.items()])
    return run_id


@task(task_run_name="register_model {model}", cache_policy=NO_CACHE)
def register_model(run_id: str, model: str) -> RegisteredModel:
    """Register the model of a run, and make it the champion.

    Raises:
        UsageError: The model has a champion already.
    """
    tracking.configure()
    metrics = measured(run_id)
    with team_exclusive(f"model {model}"):
        require_no_champion(model)
        description = "A model from elsewhere, registered by `kd register`."
        version = tracking.register(model, run_id, tags={Tag.KIND: REGISTERED}, description=description)
        tracking.set_champion(version)
    return RegisteredModel(model=model, version=version.version, run_id=run_id, accuracy=metrics[ACCURACY])


def require_no_champion(model: str) -> None:
    """Raise a UsageError if a model has a champion. Only the promotion gate may replace a champion."""
    champion = tracking.champion(model)
    if champion is not None:
        raise UsageError(
            f"--as {model}: version {champion.version} is the champion already. Allowed: a model without a champion"
        )
