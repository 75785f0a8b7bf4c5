"""What one call of a served model costs in onnxruntime: time and memory, on the CPU."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, numpy_helper

from kdmodels.serving.checks import INPUT, OUTPUT, image_shape, tensor_bytes
from kdmodels.serving.model_file import ServedModel
from kdmodels.timing import latency

BATCH = 64  # the batch that stands for throughput, beside 1 for response
P50 = "latency/p50_ms"
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


def served_costs(models: Sequence[ServedModel]) -> dict[str, float]:
    """Return figures by the names of their metrics: sizes in 10^6 bytes, times in ms, of batches of 1 and of 64.

    Args:
        models: one, or those of an ensemble, which are called one after the other.
    """
    figures: dict[str, float] = {}
    for batch, suffix in ((1, ""), (BATCH, f"_batch{BATCH}")):
        images = np.full((batch, *models[0].input_shape), 0.5, np.float32)  # kernels take as long for any image

        def call(images: np.ndarray = images) -> None:
            for model in models:
                model.run(images)

        peaks = [memory(model.model, batch) for model in models]
        figures[f"cost/memory_mb{suffix}"] = (sum(weights for weights, _ in peaks) + max(p for _, p in peaks)) / 1e6
        figures[f"{P50}{suffix}"], figures[f"latency/p95_ms{suffix}"] = latency(call)
    return figures


def memory(model: ModelProto, batch: int) -> tuple[int, int]:
    """Return the bytes of a file's constants, and of the tensors that are alive at once, at their peak.

    Counted by shape inference in the order of the file's operations, and so the same on every machine. A reshaped
    tensor is the tensor itself. What onnxruntime saves by fusing operations and what a kernel needs for itself are
    left out.
    """
    constants = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    sizes = tensor_bytes(model, batch)
    sizes[INPUT] = batch * int(np.prod(image_shape(model.graph))) * 4
    owner = {INPUT: INPUT}
    for node in model.graph.node:
        for name in node.output:
            is_view = node.op_type in _VIEWS and node.input[0] in owner
            owner[name] = owner[node.input[0]] if is_view else name
    last = {owner[name]: at for at, node in enumerate(model.graph.node) for name in node.input if name in owner}
    last |= {owner[OUTPUT]: len(model.graph.node), INPUT: len(model.graph.node)}  # the caller holds both
    alive = peak = sizes[INPUT]
    for at, node in enumerate(model.graph.node):
        new = [name for name in node.output if name and owner[name] == name]
        alive += sum(sizes[name] for name in new)
        peak = max(peak, alive)
        used = {owner[name] for name in [*node.input, *new] if name in owner}
        alive -= sum(sizes[name] for name in used if last.get(name, at) == at)
    return constants, peak
