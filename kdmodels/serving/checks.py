"""Safety rules for ONNX files. kdflow checks each file before onnxruntime reads it.

Files are checked because they may come from a registry, and files from a registry are not trusted.

Each rule is a function that raises `RefusedError` if a file breaks the rule. `check_model` applies the rules in the
order in which this module defines them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, numpy_helper

from kdmodels.serving.refusal import RefusedError, first_line
from kdmodels.serving.tensor_sizes import (
    BATCH,
    CLASS,
    CODES,
    IMAGES,
    INPUT,
    OUTPUT,
    TensorInfo,
    constants_of,
    infer_tensors,
    range_length,
    scalars_of,
    tensor_bytes,
)

OPERATIONS = 20_000  # maximum number of operations in a graph; swin_v2 has about 1,000
IMAGE_BYTES = 2**32  # maximum total size of all tensors in the forward pass of one image
LONGEST, LONGEST_TOTAL = 2**16, 2**22  # maximum number of integers in shape inference, per tensor and in total
STANDARD_DOMAINS = ("", "ai.onnx")
_WHOLE = (TensorProto.INT32, TensorProto.INT64)
_PROPAGATED = ("Add", "Sub", "Mul", "Cast", "Identity", "Shape", "Size", "Slice", "Squeeze", "Unsqueeze")
_SESSION_OPTIONS = "ort_config"  # metadata key for session options, which onnxruntime can read from a file
_REFUSED_PARTS = {
    "SparseTensorProto": "a sparse tensor",
    "FunctionProto": "a function of its own",
    "TrainingInfoProto": "training information",
}


@dataclass(frozen=True)
class Signature:
    """The number of dimensions of each input and of the output of a served graph, by name.

    All inputs and outputs are float32. Their first dimension is the batch, and the other dimensions are fixed.
    """

    inputs: Mapping[str, int]
    output: Mapping[str, int]


CLASSIFIER = (Signature({INPUT: 4}, {OUTPUT: 2}),)
GENERATOR = (Signature({CODES: 2}, {IMAGES: 4}), Signature({CODES: 2, CLASS: 2}, {IMAGES: 4}))


def check_model(model: ModelProto, content: bytes, signatures: Sequence[Signature] = CLASSIFIER) -> None:
    """Require that an ONNX file contains only data, refers to no other file, and uses only standard operators.

    The size of the graph and the memory for one image are also limited.

    Args:
        model: The model that was parsed from `content`.
        content: The content of the file.
        signatures: The allowed signatures, which differ in the number of inputs. Default: images to logits.

    Raises:
        RefusedError: The file breaks a rule.
    """
    for message in _messages(model):
        _require_known_fields(message)
        _require_allowed_part(message, model.graph)
        if isinstance(message, NodeProto):
            _require_standard_operator(message)
        if isinstance(message, TensorProto):
            _require_numbers_inside(message)
    _require_few_operations(model.graph)
    _require_unique_names(model.graph)
    _require_no_session_options(model)
    _require_signature(model.graph, signatures)
    _require_little_inference(model.graph)
    _require_valid_onnx(content)
    tensors = infer_tensors(model, batch=1)
    _require_safe_divisions(model.graph, tensors)
    _require_bounded_memory(tensors)


def check_batch(model: ModelProto, size: int, single: dict[str, int]) -> None:
    """Require that the size of each tensor grows at most in proportion to the number of images in the batch.

    Args:
        model: The checked model.
        size: The number of images in the batch.
        single: The size in bytes of each tensor for one image, from `tensor_bytes`.

    Raises:
        RefusedError: A tensor grows faster than the batch.
    """
    for name, count in tensor_bytes(model, size).items():
        if count > size * single[name]:
            raise RefusedError(
                f"tensor {name!r} takes {count} bytes for {size} images and {single[name]} for one. "
                f"Allowed: at most {size * single[name]}"
            )


def _require_known_fields(message: Message) -> None:
    if len(UnknownFieldSet(message)):
        raise RefusedError("the file has fields that this version of onnx does not know")


def _require_allowed_part(message: Message, graph: GraphProto) -> None:
    """Refuse sparse tensors, functions, training information, and graphs inside operations.

    Exported networks do not need these parts.

    Args:
        message: The part of the file.
        graph: The graph of the model, which is the only allowed graph.
    """
    kind = type(message).__name__
    if kind in _REFUSED_PARTS:
        raise RefusedError(f"the file has {_REFUSED_PARTS[kind]}")
    if isinstance(message, GraphProto) and message is not graph:
        raise RefusedError("the file has a graph inside an operation. Allowed: one flat graph")


def _require_standard_operator(node: NodeProto) -> None:
    if node.domain not in STANDARD_DOMAINS:
        raise RefusedError(f"the file uses an operator of {node.domain!r}. Allowed: the operators of ONNX itself")


def _require_numbers_inside(tensor: TensorProto) -> None:
    """Require that a tensor is stored inside the file and contains numbers that fit its declared shape."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise RefusedError(f"tensor {tensor.name!r} is stored in another file. Allowed: inside the file")
    if tensor.data_type == TensorProto.STRING:
        raise RefusedError(f"tensor {tensor.name!r} holds text. Allowed: numbers")
    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # onnx and numpy raise errors of several types
        raise RefusedError(f"tensor {tensor.name!r} does not fit its shape: {first_line(error)}") from error


def _require_few_operations(graph: GraphProto) -> None:
    if len(graph.node) > OPERATIONS:
        raise RefusedError(f"the graph has {len(graph.node)} operations. Allowed: at most {OPERATIONS}")


def _require_unique_names(graph: GraphProto) -> None:
    names = [value.name for value in [*graph.input, *graph.initializer]]
    names += [name for node in graph.node for name in node.output if name]
    if len(set(names)) != len(names):
        raise RefusedError("two tensors have the same name")


def _require_no_session_options(model: ModelProto) -> None:
    if any(prop.key == _SESSION_OPTIONS for prop in model.metadata_props):
        raise RefusedError("the metadata holds options for onnxruntime")


def _require_signature(graph: GraphProto, signatures: Sequence[Signature]) -> None:
    """Require that the inputs and the output of the graph match the signature with the same number of inputs."""
    signature = next((each for each in signatures if len(each.inputs) == len(graph.input)), signatures[0])
    for side, values, ranks in (("input", graph.input, signature.inputs), ("output", graph.output, signature.output)):
        types = "; ".join(f"{value.name} {_described(value.type)}" for value in values)
        if [value.name for value in values] != [*ranks]:
            names = f"one {side} named {next(iter(ranks))}" if len(ranks) == 1 else f"{side}s named {', '.join(ranks)}"
            raise RefusedError(f"the {side} is {types or 'missing'}. Allowed: {names}")
        for value in values:
            _require_batches_of_floats(value, side, ranks[value.name])


def _require_batches_of_floats(value: ValueInfoProto, side: str, rank: int) -> None:
    kind, tensor = f"{value.name} {_described(value.type)}", value.type.tensor_type
    dims = tensor.shape.dim
    fixed = [dim.dim_value for dim in dims[1:]]
    if tensor.elem_type != TensorProto.FLOAT or len(dims) != rank or min(fixed, default=0) < 1:
        rule = f"FLOAT with {rank} dimensions, all but the first of fixed size"
        raise RefusedError(f"the {side} is {kind}. Allowed: {rule}")
    if dims[0].dim_param != BATCH:
        raise RefusedError(f"the {side} is {kind}. Allowed as the first dimension: {BATCH}")


def _require_little_inference(graph: GraphProto) -> None:
    """Require that shape inference computes only a limited number of integers.

    Shape inference computes small integer tensors element by element. Without a limit, a file of a few bytes with a
    Range operation or nested Concat operations could fill the memory before the size of any tensor is known.
    """
    scalars = scalars_of(graph)
    lengths = {tensor.name: prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in _WHOLE}
    total = 0
    for node in graph.node:
        length = _propagated_length(node, lengths) if node.op_type != "Range" else None
        if node.op_type == "Range" and all(name in scalars for name in node.input):
            length = range_length(node, scalars)
        if length is None:
            continue
        total += length
        if length > LONGEST or total > LONGEST_TOTAL:
            raise RefusedError(
                f"{node.op_type}'s output {node.output[0]!r} has {length} whole numbers. "
                f"Allowed: {LONGEST} per tensor, {LONGEST_TOTAL} in all"
            )
        lengths[node.output[0]] = length


def _propagated_length(node: NodeProto, lengths: dict[str, int]) -> int | None:
    """Return the number of integers that shape inference computes for an operation.

    Args:
        node: The operation.
        lengths: The number of integers in each tensor whose values shape inference knows, by the name of the tensor.

    Returns:
        The number of integers. `None` if shape inference does not compute the values of such operations.
    """
    inputs = [lengths.get(name, 0) for name in node.input]
    if node.op_type == "Constant":
        return sum(max(prod(attribute.t.dims), len(attribute.ints)) for attribute in node.attribute)
    if node.op_type == "Concat":
        return sum(inputs)
    if node.op_type == "Gather":
        return inputs[1] if inputs[0] else 0
    return max(inputs, default=0) if node.op_type in _PROPAGATED else None


def _require_valid_onnx(content: bytes) -> None:
    try:
        onnx.checker.check_model(content, full_check=True)
    except Exception as error:  # the checker raises errors of several types
        raise RefusedError(f"the ONNX checker refuses the file: {first_line(error)}") from error


def _require_safe_divisions(graph: GraphProto, tensors: dict[str, TensorInfo]) -> None:
    """Require that the divisor of every integer division is a positive constant.

    If a program divides the smallest integer by -1, the processor stops the program. onnxruntime does not prevent this
    division.
    """
    constants = constants_of(graph)
    for node in graph.node:
        output = tensors.get(node.output[0])
        if node.op_type in ("Div", "Mod") and output is not None and output.element_type in _WHOLE:
            divisor = constants.get(node.input[1])
            if divisor is None or not (numpy_helper.to_array(divisor) > 0).all():
                raise RefusedError(
                    f"{node.op_type} divides whole numbers by {node.input[1]!r}. Allowed: a positive constant"
                )


def _require_bounded_memory(tensors: dict[str, TensorInfo]) -> None:
    total = sum(tensor.byte_count for tensor in tensors.values())
    if total > IMAGE_BYTES:
        raise RefusedError(f"the tensors take {total} bytes for one image. Allowed: at most {IMAGE_BYTES}")


def _messages(message: Message) -> Iterator[Message]:
    """Yield a protobuf message and the messages inside it. Messages inside tensors are left out."""
    yield message
    if isinstance(message, TensorProto):
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)


def _described(kind: TypeProto) -> str:
    dims = [dim.dim_param or dim.dim_value for dim in kind.tensor_type.shape.dim]
    return f"{TensorProto.DataType.Name(kind.tensor_type.elem_type)} {dims}"
