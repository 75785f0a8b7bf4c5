"""A network as an ONNX file: the graph is exported once per architecture, and filled with each network's weights."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from kdmodels.durable import write_whole
from kdmodels.errors import UserError
from kdmodels.folders import cache_folder, private_folder
from kdmodels.networks import Description, sources
from kdmodels.serving.checks import BATCH, INPUT, OUTPUT, RefusedError
from kdmodels.serving.model_file import CLASSES, FILE_BYTES, ServedModel

OPSET, IR_VERSION = 18, 8  # of 2022: any onnxruntime of recent years knows them
LIBRARIES = ("torch", "onnx", "onnxscript")
_EXPORT = threading.Lock()  # exports in two threads at once fail; training meanwhile is fine


def graph_of(description: Description) -> ModelProto:
    """Return the ONNX graph of an architecture, its weights being inputs; exported once, then read from the cache.

    A graph comes into the cache when a file made from it has been loaded.

    Raises:
        UserError: the network can't be written as ONNX, or the file would not be served.
    """
    path = cache_folder() / "graphs" / f"{_key(description)}.onnx"
    with suppress(OSError, DecodeError):
        private_folder(path.parent)
        return _parsed(path)
    network = description.build(pretrained=False).eval()
    graph = export_graph(network, description.input_shape)
    try:
        ServedModel(fill(graph, network.state_dict(), {}))
    except RefusedError as error:
        raise UserError(f"this network can't be served as ONNX: {error}") from error
    with suppress(OSError):  # where it can't be kept, it is exported again
        write_whole(path, lambda partial: partial.write_bytes(graph.SerializeToString()))
    return graph


def export_graph(network: nn.Module, input_shape: tuple[int, int, int]) -> ModelProto:
    """Export a network for any batch size. Its weights become inputs of the graph, named as in the state dict.

    Weights are taken out before the graph is optimised: otherwise batch norms are folded into other tensors, and
    another network's weights could not be put in their place. onnxruntime folds them when it loads the file.

    Args:
        network: in eval mode, on the CPU.

    Raises:
        UserError: the network can't be written as ONNX.
    """
    example = torch.zeros(2, *input_shape)  # a batch of 1 would be frozen in
    names = network.state_dict().keys()
    with _EXPORT, _quiet():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            graph = program.model.graph
            for name in names & graph.initializers.keys():
                weight = graph.initializers.pop(name)
                weight.const_value = None
                graph.inputs.append(weight)
            program.optimize()
            model = program.model_proto
        except Exception as error:  # torch's exporter raises whatever its passes do
            raise UserError(f"this network can't be written as ONNX, as served models are: {_why(error)}") from error
    return _bare(model)


def fill(graph: ModelProto, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Put a network's weights into its architecture's graph.

    Raises:
        UserError: the file would be larger than a protobuf can be.
        KeyError: the state lacks a weight of the graph, or its shape or type differs.
    """
    model = ModelProto()
    model.CopyFrom(graph)
    weights = [value for value in model.graph.input if value.name != INPUT]
    size = sum(state[value.name].nbytes for value in weights)
    if size > FILE_BYTES - graph.ByteSize() - 2**20:
        raise UserError(f"weights of {size / 1e9:.1f} GB don't fit into an ONNX file (allowed: 2 GB)")
    for value in weights:
        tensor = numpy_helper.from_array(state[value.name].detach().cpu().numpy(), value.name)
        declared = value.type.tensor_type
        if declared.elem_type != tensor.data_type or [dim.dim_value for dim in declared.shape.dim] != list(tensor.dims):
            raise KeyError(f"{value.name} is not as in the graph")
        model.graph.initializer.append(tensor)
        model.graph.input.remove(value)
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    return model.SerializeToString()


def metadata_of(description: Description, run_id: str) -> dict[str, str]:
    """Return what a file says of itself, for those who have only the file."""
    channels, height, width = description.input_shape
    return {
        CLASSES: json.dumps(description.classes),
        "kd.input": f"float32 images (N, {channels}, {height}, {width}); {'RGB' if channels == 3 else 'grey'}",
        "kd.input_size": f"{height}x{width}",
        "kd.value_range": "[0, 1]; the normalisation is inside",
        "kd.resize": "bilinear, to exactly that size, without regard to the aspect ratio",
        "kd.output": "logits (N, K)",
        "kd.version": version("kdflow"),
        "kd.run_id": run_id,
    }


def _key(description: Description) -> str:
    """Return a digest of all that determines a graph; mean and deviation are weights."""
    parts = {
        "network": description.network.model_dump(mode="json"),
        "input": [description.input_shape, len(description.mean)],
        "classes": len(description.classes),
        "source": sources(description.network),
        "code": _code(),
        "versions": {name: version(name) for name in LIBRARIES},
        "formats": [OPSET, IR_VERSION],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Return a digest of the code that builds and exports networks."""
    home = Path(__file__).parents[1]
    files = [
        home / "architectures.py",
        *sorted((home / "networks").glob("*.py")),
        *sorted((home / "serving").glob("*.py")),
    ]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _parsed(path: Path) -> ModelProto:
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def _bare(model: ModelProto) -> ModelProto:
    """Leave out traces of the export, which are larger than a small network and name this machine's folders."""
    model.ir_version = IR_VERSION
    del model.graph.value_info[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.ClearField("doc_string")
    onnx.checker.check_model(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's advice about operators that are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _why(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
