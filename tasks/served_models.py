"""Functions that export, check, store and load the ONNX model of a run."""

import json

import torch
from torch import nn

from kdmodels.data import Dataset
from kdmodels.errors import UserError
from kdmodels.evaluation.flops import FLOPS, flops
from kdmodels.networks import Description
from kdmodels.serving.agreement import served_file
from kdmodels.serving.graph import metadata_of
from kdmodels.serving.model_file import ServedModel
from tasks import tracking
from tasks.tracking.contents import model_id
from tasks.tracking.models import log_model
from tasks.tracking.served import load_model
from tasks.tracking.tags import Tag


def record_model(run_id: str, description: Description, network: nn.Module, data: Dataset) -> None:
    """Store a trained network as the run's ONNX model, and record the network's FLOPs.

    The agreement between the ONNX model and the network on validation examples is recorded too.

    Args:
        network: The network in eval mode, on the CPU.

    Raises:
        UserError: the logits of the ONNX model differ from those of the network.
    """
    content, agreement = served_file(description, network, metadata_of(description, run_id), data.validation)
    log_model(run_id, content, data.train.batch(torch.arange(2)).numpy())
    figures = {
        "onnx/largest_difference": agreement.difference,
        "onnx/agreement": agreement.agreement,
        "onnx/examples": agreement.examples,
    }
    operations = flops(network, description.input_shape)
    if operations is not None:
        figures[FLOPS] = operations
    tracking.log_metrics(run_id, [(name, value, 0) for name, value in figures.items()])


def run_model(run_id: str, threads: int | None = None) -> ServedModel:
    """Load a finished run's ONNX model.

    Args:
        threads: Number of threads for onnxruntime. Default: the number of cores.

    Raises:
        UserError: the run has no ONNX model, or kdflow refuses to serve the model.
    """
    stored = model_id(run_id)
    if stored is None:
        raise UserError(
            f"run {run_id[:8]} has no ONNX model; to make it from its stored weights: kd promote {run_id[:8]}"
        )
    return load_model(f"models:/{stored}", threads)


def members_of(run_id: str) -> list[str]:
    """Return the run ids of the members of an ensemble. For a run of any other kind, return only its own id."""
    members = tracking.get(run_id).tags.get(Tag.MEMBERS)
    return json.loads(members) if members else [run_id]
