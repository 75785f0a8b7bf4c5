"""Export of networks to ONNX files.

The graph of an architecture is exported once, without weights. For each network of this architecture, the weights of
the network are then written into a copy of the graph.
"""

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
from onnx import ModelProto, ValueInfoProto, numpy_helper
from torch import Tensor, nn

from kdmodels.errors import UserError
from kdmodels.files.atomic import write_whole
from kdmodels.files.folders import cache_folder, private_folder
from kdmodels.networks import Description, sources
from kdmodels.serving.model_file import CLASSES, FILE_BYTES, ServedModel
from kdmodels.serving.refusal import RefusedError
from kdmodels.serving.tensor_sizes import BATCH, INPUT, OUTPUT

OPSET, IR_VERSION = 18, 8  # versions from 2022, which every recent onnxruntime can read
LIBRARIES = ("torch", "onnx", "onnxscript")
_EXPORT = threading.Lock()  # two threads can't export at the same time; training during an export works


def graph_of(description: Description) -> ModelProto:
    """Return the ONNX graph of an architecture. The weights are inputs of the graph.

    The graph is exported once and then read from a cache. Before the graph is cached, it is filled with weights as a
    test. The resulting file must pass all checks of `kdmodels.serving.checks`.

    Args:
        description: Description of a network of this architecture.

    Raises:
        UserError: The network can't be written as ONNX, or the file does not pass the checks.
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
        raise UserError(f"the network can't be served as ONNX: {error}") from error
    with suppress(OSError):  # without the cache, the graph is exported again next time
        write_whole(path, lambda partial: partial.write_bytes(graph.SerializeToString()))
    return graph


def export_graph(network: nn.Module, input_shape: tuple[int, int, int]) -> ModelProto:
    """Export a classifier as an ONNX graph from images to logits, see `graph_between`.

    Args:
        network: The network, in eval mode and on the CPU.
        input_shape: The shape (C, H, W) of an image.
    """
    return graph_between({INPUT: torch.zeros(2, *input_shape)}, OUTPUT, network)


def graph_between(inputs: Mapping[str, Tensor], output: str, network: nn.Module) -> ModelProto:
    """Export a network as an ONNX graph for any batch size. The values of the weights are not stored in the graph.

    Each weight becomes an input of the graph, with its name from the state dict. `fill` can then insert the weights of
    any network of the same architecture. The values are removed before the graph is optimised. Otherwise, the optimiser
    would merge the weights of batch norms and other layers, and `fill` could no longer insert them separately.
    onnxruntime does the same merging when it loads the file, so the served model is not slower.

    Args:
        inputs: An example of each input by name, in the order of the network's arguments. An example is a batch of 2,
            because the batch size would become fixed with a batch of 1.
        output: The name of the output.
        network: The network, in eval mode and on the CPU.

    Returns:
        The model that contains the graph.

    Raises:
        UserError: The network can't be written as ONNX.
    """
    names = network.state_dict().keys()
    batch = torch.export.Dim(BATCH)
    with _EXPORT, _quiet():
        try:
            program = torch.onnx.export(
                network,
                tuple(inputs.values()),
                dynamo=True,
                input_names=[*inputs],
                output_names=[output],
                dynamic_shapes=({0: batch},) * len(inputs),
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
        except Exception as error:  # torch's exporter raises errors of any type
            raise UserError(
                f"the network can't be written as ONNX, the format of served models: {_root_cause(error)}"
            ) from error
    return _without_traces(model)


def fill(graph: ModelProto, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Fill the graph of an architecture with the weights of a network, and return the content of the ONNX file.

    Args:
        graph: The graph of the architecture, from `graph_of` or `export_graph`.
        state: The state dict of the network.
        metadata: Texts that are stored in the file, by key.

    Raises:
        UserError: The file would be larger than protobuf allows.
        KeyError: A weight of the graph is missing from the state dict, or has another shape or type.
    """
    model = ModelProto()
    model.CopyFrom(graph)
    weights = [value for value in model.graph.input if not _is_batch(value)]
    size = sum(state[value.name].nbytes for value in weights)
    if size > FILE_BYTES - graph.ByteSize() - 2**20:
        raise UserError(f"weights of {size / 1e9:.1f} GB do not fit into an ONNX file. Allowed: 2 GB")
    for value in weights:
        tensor = numpy_helper.from_array(state[value.name].detach().cpu().numpy(), value.name)
        declared = value.type.tensor_type
        if declared.elem_type != tensor.data_type or [dim.dim_value for dim in declared.shape.dim] != list(tensor.dims):
            raise KeyError(f"{value.name} has another shape or type in the graph")
        model.graph.initializer.append(tensor)
        model.graph.input.remove(value)
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    return model.SerializeToString()


def metadata_of(description: Description, run_id: str) -> dict[str, str]:
    """Return texts that describe a network, by key. They are stored in the ONNX file for users who have only this file.

    Args:
        description: The description of the network.
        run_id: The id of the run that trained the network.
    """
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
    """Return the cache key of a graph: a digest of everything that determines the graph.

    The mean and standard deviation of the normalisation are left out. Like the weights, they are inputs of the graph.
    """
    parts = {
        "network": description.network.model_dump(mode="json"),
        "input": [description.input_shape, len(description.mean), description.size],
        "classes": len(description.classes),
        "source": sources(description.network),
        "code": _code(),
        "versions": _versions(),
        "formats": [OPSET, IR_VERSION],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache  # reading the versions takes several ms, and a plan asks for the graph of each student
def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


@cache
def _code() -> str:
    """Return a digest of the code that builds and exports networks."""
    home = Path(__file__).parents[1]
    files = [
        home / "experiment" / "architectures.py",
        *sorted((home / "networks").glob("*.py")),
        *sorted((home / "serving").glob("*.py")),
    ]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _is_batch(value: ValueInfoProto) -> bool:
    """Return whether an input of a graph is a batch of examples. Every other input is a weight."""
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and dims[0].dim_param == BATCH


def _parsed(path: Path) -> ModelProto:
    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def _without_traces(model: ModelProto) -> ModelProto:
    """Remove the exporter's debugging information from a model, and return the model.

    The information contains local paths and needs more space than a small network.
    """
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
    """Suppress the exporter's messages about missing operators."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
