"""A served model as a file for another runtime: the ONNX file itself, ONNX in 8-bit integers, or a torch program."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from kdmodels.data.dataset import Split
from kdmodels.evaluation import BATCH
from kdmodels.serving.checks import INPUT
from kdmodels.serving.model_file import ServedModel
from kdmodels.temporary import temporary_folder

SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx", "int8": ".int8.onnx"}
CALIBRATION_BATCH = 64
Logits = Callable[[np.ndarray], np.ndarray]


def write_onnx(served: ServedModel, path: Path) -> Logits:
    """Write the served file as it is, and return what was written as a function of images to logits."""
    path.write_bytes(served.model.SerializeToString())
    return ServedModel(path.read_bytes())


def write_int8(served: ServedModel, path: Path, calibration: Tensor) -> Logits:
    """Write the served model in 8-bit integers, and return what was written as a function of images to logits.

    Post-training static quantisation by onnxruntime: weights and layers' outputs become 8-bit integers, whose ranges
    are those seen on the calibration images. Weights use 7 of the 8 bits: on x86 processors without VNNI the product of
    full ones saturates, which costs accuracy.

    Args:
        calibration: images (N, C, H, W) of the training split.
    """
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with temporary_folder() as folder:
        source, prepared = folder / "model.onnx", folder / "prepared.onnx"
        write_onnx(served, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, path, _Batches(calibration), per_channel=True, reduce_range=True)
    return ServedModel(path.read_bytes())


def write_pt2(network: nn.Module, path: Path, input_shape: tuple[int, int, int]) -> Logits:
    """Write a network as a torch program for batches of any size; it is never read again here, for that can run code.

    Args:
        network: in eval mode, on the CPU.

    Returns:
        The program in memory, as a function of images to logits.
    """
    example = torch.zeros(2, *input_shape)  # stored in the file; a batch of 1 would be frozen in
    program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names this machine's folders
    torch.export.save(program, path)
    run = program.module()

    @torch.no_grad()
    def logits(images: np.ndarray) -> np.ndarray:
        values: np.ndarray = run(torch.from_numpy(images)).numpy()
        return values

    return logits


def compare(original: Logits, exported: Logits, split: Split) -> dict[str, float]:
    """Compare an exported network with the original on real examples.

    Returns:
        examples (how many), accuracy and exported_accuracy, agreement (the share of examples on which the two name the
        same class) and largest_difference (of any two logits).
    """
    batches = [split.batch(rows).numpy() for rows in torch.arange(len(split)).split(BATCH)]
    first, second = (np.concatenate([logits(images) for images in batches]) for logits in (original, exported))
    labels = split.labels.numpy()
    return {
        "examples": len(split),
        "accuracy": float((first.argmax(axis=1) == labels).mean()),
        "exported_accuracy": float((second.argmax(axis=1) == labels).mean()),
        "agreement": float((first.argmax(axis=1) == second.argmax(axis=1)).mean()),
        "largest_difference": float(np.abs(first - second).max()),
    }


class _Batches:
    """The calibration images as onnxruntime asks for them."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
