"""The ONNX model of a run: made from its network, checked, stored, and loaded for everything that judges the run."""

import json

import torch
from torch import nn

from kdmodels.costs import FLOPS, flops
from kdmodels.data import Dataset
from kdmodels.errors import UserError
from kdmodels.networks import Description
from kdmodels.serving.agreement import served_file
from kdmodels.serving.graph import metadata_of
from kdmodels.serving.model_file import ServedModel
from tasks import tracking
from tasks.results import MEMBERS
from tasks.tracking.contents import model_id
from tasks.tracking.models import log_model
from tasks.tracking.served import load_model


def record_model(run_id: str, description: Description, network: nn.Module, data: Dataset) -> None:
    """Store a trained network as the run's ONNX model, what it computes, and how near its logits are on validation.

    Args:
        network: in eval mode, on the CPU.

    Raises:
        UserError: the file gives other logits than the network.
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
        threads: of onnxruntime; None: as many as there are cores.

    Raises:
        UserError: the run has none, or its file is not one that kdflow serves.
    """
    found = model_id(run_id)
    if found is None:
        raise UserError(
            f"run {run_id[:8]} has no ONNX model; to make it from its stored weights: kd promote {run_id[:8]}"
        )
    return load_model(f"models:/{found}", threads)


def members_of(run_id: str) -> list[str]:
    """Return the runs that hold an ensemble's networks; of any other run itself."""
    members = tracking.get(run_id).tags.get(MEMBERS)
    return json.loads(members) if members else [run_id]
