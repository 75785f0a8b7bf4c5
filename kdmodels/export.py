"""A network as one file that needs no code of ours: a torch program (pt2), ONNX, or ONNX in 8-bit integers."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdmodels.data.dataset import Split
from kdmodels.errors import UserError
from kdmodels.evaluation import BATCH, predict
from kdmodels.temporary import temporary_folder

SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx", "int8": ".int8.onnx"}
ONNX = ("onnx", "onnxruntime", "onnxscript")
INPUT, OUTPUT = "images", "logits"
CALIBRATION_BATCH = 64


def check_format(kind: str) -> None:
    """Raise UserError where the packages that a format of SUFFIXES needs are not installed."""
    missing = [name for name in ONNX if kind != "pt2" and find_spec(name) is None]
    if missing:
        raise UserError(f"--{kind} needs {', '.join(missing)}; install with: pip install kdflow[export]")


def export(network: nn.Module, kind: str, path: Path, calibration: Tensor) -> None:
    """Write the network to the path, for batches of any size.

    int8 is post-training static quantisation by onnxruntime: weights and layers' outputs become 8-bit integers, whose
    ranges are those seen on the calibration images. Weights use 7 of the 8 bits: on x86 processors without VNNI the
    product of full ones saturates, which costs accuracy.

    Args:
        network: in eval mode, on the CPU. kind: of SUFFIXES. path: ends with its suffix.
        calibration: (N, C, H, W), of the training split; read for int8 alone.
    Raises:
        UserError: ONNX has no operation for one of the network's.
    """
    program = _program(network, tuple(calibration.shape[1:]))
    if kind == "pt2":
        torch.export.save(program, path)
        return
    if kind == "onnx":
        _save_onnx(program, path)
        return
    with temporary_folder() as folder:
        _save_onnx(program, folder / "network.onnx")
        _quantise(folder / "network.onnx", path, calibration)


def load(path: Path, kind: str) -> Callable[[Tensor], Tensor]:
    """The file as a function of images (N, C, H, W) to logits (N, K), by the runtime that it is for."""
    if kind == "pt2":
        program: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return program
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@torch.no_grad()
def compare(network: nn.Module, exported: Callable[[Tensor], Tensor], split: Split) -> dict[str, float]:
    """How near an exported network is to the original on real examples.

    Returns:
        examples (how many), accuracy and exported_accuracy, agreement (the share of examples on which the two name the
        same class) and largest_difference (of any two logits).
    """
    original = predict(network, split)
    copy = torch.cat([exported(split.batch(rows)) for rows in torch.arange(len(split)).split(BATCH)])

    def share(right: Tensor) -> float:
        return right.double().mean().item()

    return {
        "examples": len(split),
        "accuracy": share(original.argmax(dim=1) == split.labels),
        "exported_accuracy": share(copy.argmax(dim=1) == split.labels),
        "agreement": share(original.argmax(dim=1) == copy.argmax(dim=1)),
        "largest_difference": (original - copy).abs().max().item(),
    }


def _program(network: nn.Module, input_shape: tuple[int, ...]) -> ExportedProgram:
    example = torch.zeros(2, *input_shape)  # stored in the file; a batch of 1 would be frozen in
    program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names this machine's folders
    return program


def _save_onnx(program: ExportedProgram, path: Path) -> None:
    """Without the traces of its making, which are larger than a small network and name this machine's folders."""
    import onnx

    try:
        exported = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"this network can't be written as ONNX: {reason}; allowed: --pt2") from error
    assert exported is not None
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def _quantise(source: Path, path: Path, calibration: Tensor) -> None:
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, path, _Batches(calibration), per_channel=True, reduce_range=True)


class _Batches:
    """The calibration images as onnxruntime asks for them."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images.split(CALIBRATION_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
