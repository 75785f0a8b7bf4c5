"""Export of networks for other runtimes: to ONNX, to ONNX with 8-bit integers, or to a torch program."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from kdmodels.data.split import Split
from kdmodels.evaluation.predictions import BATCH
from kdmodels.files.temporary import temporary_folder
from kdmodels.serving.model_file import ServedModel
from kdmodels.serving.tensor_sizes import INPUT

SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx", "int8": ".int8.onnx"}
CALIBRATION_BATCH = 64
Logits = Callable[[np.ndarray], np.ndarray]


def write_onnx(served: ServedModel, path: Path) -> Logits:
    """Write a served model to an ONNX file, and return the model of this file as a function from images to logits."""
    path.write_bytes(served.model.SerializeToString())
    return ServedModel(path.read_bytes())


def write_int8(served: ServedModel, path: Path, calibration: Tensor) -> Logits:
    """Write a served model with 8-bit integers, and return the new model as a function from images to logits.

    onnxruntime applies static post-training quantisation. The weights and the outputs of layers become 8-bit integers.
    The ranges of the outputs are measured on the calibration images. Weights use only 7 of the 8 bits. With all 8 bits,
    products would saturate on x86 processors without VNNI, and the accuracy would decrease.

    Args:
        served: The served model.
        path: The path of the new file.
        calibration: Images (N, C, H, W) of the training split.
    """
    from onnxruntime.quantization import quantize_static  # noqa: PLC0415 - takes seconds; only `kd export` needs it
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415 - as above

    with temporary_folder() as folder:
        source, prepared = folder / "model.onnx", folder / "prepared.onnx"
        write_onnx(served, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, path, _Batches(calibration), per_channel=True, reduce_range=True)
    return ServedModel(path.read_bytes())


def write_pt2(network: nn.Module, path: Path, input_shape: tuple[int, int, int]) -> Logits:
    """Write a network as a torch program for batches of any size.

    kdflow never reads torch programs, because loading a torch program can run code.

    Args:
        network: The trained network, in eval mode and on the CPU.
        path: The path of the new file.
        input_shape: The shape (C, H, W) of an image.

    Returns:
        The program in memory, as a function from images to logits.
    """
    example = torch.zeros(2, *input_shape)  # stored in the file; with 1 image, the batch size would become fixed
    program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # contains paths of this machine
    torch.export.save(program, path)
    run = program.module()

    @torch.no_grad()
    def logits(images: np.ndarray) -> np.ndarray:
        values: np.ndarray = run(torch.from_numpy(images)).numpy()
        return values

    return logits


def compare(original: Logits, exported: Logits, split: Split) -> dict[str, float]:
    """Compare an exported network with the original on real examples.

    Args:
        original: The original network, as a function from images to logits.
        exported: The exported network, as a function from images to logits.
        split: The split whose examples are used.

    Returns:
        Results of the comparison, by name. `examples` is the number of examples. `accuracy` is the accuracy of the
        original network. `exported_accuracy` is the accuracy of the exported network. `agreement` is the share of
        examples for which both networks predict the same class. `largest_difference` is the largest absolute difference
        between a logit of the original and the same logit of the exported network.
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
    """Batches of calibration images, in the form that onnxruntime reads."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
