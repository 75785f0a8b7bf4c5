"""Measurement of the latency and the memory of one call of a served model (an ONNX file)."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, numpy_helper

from kdmodels.evaluation.timing import latency
from kdmodels.serving.model_file import ServedModel
from kdmodels.serving.tensor_sizes import INPUT, OUTPUT, image_shape, tensor_bytes

BATCH = 64  # this batch size shows the throughput; batch size 1 shows the response time
P50 = "latency/p50_ms"
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


def served_costs(models: Sequence[ServedModel]) -> dict[str, float]:
    """Return the memory and latency metrics of a call with 1 image and of a call with 64 images, by name.

    Sizes are in 10^6 bytes, and times are in ms. The calls run in onnxruntime on the CPU.

    Args:
        models: One model, or the members of an ensemble. The members are called one after the other. The memory of an
            ensemble is therefore the constants of all members plus the highest of the members' peak sizes.
    """
    figures: dict[str, float] = {}
    for batch, suffix in ((1, ""), (BATCH, f"_batch{BATCH}")):
        # The values of the pixels do not affect the time of a kernel.
        images = np.full((batch, *models[0].input_shape), 0.5, np.float32)

        def call(images: np.ndarray = images) -> None:
            for model in models:
                model.run(images)

        peaks = [memory(model.model, batch) for model in models]
        figures[f"cost/memory_mb{suffix}"] = (sum(weights for weights, _ in peaks) + max(p for _, p in peaks)) / 1e6
        figures[f"{P50}{suffix}"], figures[f"latency/p95_ms{suffix}"] = latency(call)
    return figures


def memory(model: ModelProto, batch: int) -> tuple[int, int]:
    """Return the size of a model's constants and the peak size of its tensors, in bytes.

    The peak size is the largest total size of the tensors that are in memory at the same time.

    Nothing is measured: the sizes of the tensors come from shape inference, and the order of the operations comes from
    the model. The result is therefore the same on every machine. A reshaped tensor shares the memory of the original
    tensor. Two effects are ignored: the memory that onnxruntime saves when it fuses operations, and the scratch memory
    of kernels.

    Args:
        model: The model.
        batch: The number of images in the call.
    """
    constants = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
    sizes = tensor_bytes(model, batch)
    sizes[INPUT] = batch * int(np.prod(image_shape(model.graph.input[0]))) * 4
    owner = {INPUT: INPUT}
    for node in model.graph.node:
        for name in node.output:
            is_view = node.op_type in _VIEWS and node.input[0] in owner
            owner[name] = owner[node.input[0]] if is_view else name
    last = {owner[name]: at for at, node in enumerate(model.graph.node) for name in node.input if name in owner}
    # The caller keeps the input and the output in memory.
    last |= {owner[OUTPUT]: len(model.graph.node), INPUT: len(model.graph.node)}
    alive = peak = sizes[INPUT]
    for at, node in enumerate(model.graph.node):
        new = [name for name in node.output if name and owner[name] == name]
        alive += sum(sizes[name] for name in new)
        peak = max(peak, alive)
        used = {owner[name] for name in [*node.input, *new] if name in owner}
        alive -= sum(sizes[name] for name in used if last.get(name, at) == at)
    return constants, peak
