"""What an ONNX file must be before onnxruntime gets it. A file of the registry is a stranger's until it passes."""

from collections.abc import Iterator
from math import ceil, prod

import numpy as np
import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper, shape_inference

from kdmodels.errors import UserError

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
NODES = 20_000  # the most operations of a graph; swin_v2 has 1,000
IMAGE_BYTES = 2**32  # the most that all tensors of one image's pass may take together
SMALL = 4096  # elements of a constant whose values shape inference may need
LONGEST, LONGEST_TOTAL = 2**16, 2**22  # whole numbers that shape inference may compute with
_WHOLE = (TensorProto.INT32, TensorProto.INT64)
_PROPAGATES = ("Add", "Sub", "Mul", "Cast", "Identity", "Shape", "Size", "Slice", "Squeeze", "Unsqueeze")
DOMAINS = ("", "ai.onnx")
_SESSION_CONFIG = "ort_config"  # the metadata key from which onnxruntime can be told to read session options
_REFUSED = {
    "SparseTensorProto": "a sparse tensor",
    "FunctionProto": "a function of its own",
    "TrainingInfoProto": "training information",
}


class RefusedError(UserError):
    """An ONNX file that is not served; the message says why."""


def check_model(model: ModelProto, content: bytes) -> None:
    """Check a parsed file: data only, all of it inside the file, of standard operators, and of bounded size.

    Args:
        model: parsed from `content`.

    Raises:
        RefusedError: the file is not what kdflow serves.
    """
    for message in _messages(model):
        _check_message(message, model.graph)
    _check_names(model)
    _check_ends(model.graph)
    _check_propagated(model.graph)
    try:
        onnx.checker.check_model(content, full_check=True)
    except Exception as error:  # the checker raises errors of several kinds
        raise RefusedError(f"the ONNX checker refuses it: {first_line(error)}") from error
    total = sum(tensor_bytes(model, 1).values())
    if total > IMAGE_BYTES:
        raise RefusedError(f"its tensors take {total} bytes for one image (allowed: {IMAGE_BYTES})")


def check_batch(model: ModelProto, size: int, single: dict[str, int]) -> None:
    """Check that no tensor of a batch takes more than that many times what it takes for one image.

    Args:
        size: images in the batch. single: `tensor_bytes` of one image.

    Raises:
        RefusedError: a tensor grows faster than the batch.
    """
    for name, count in tensor_bytes(model, size).items():
        if count > size * single[name]:
            raise RefusedError(
                f"tensor {name!r} takes {count} bytes for {size} images and {single[name]} for one; "
                "allowed: as many times as many at most"
            )


def tensor_bytes(model: ModelProto, batch: int) -> dict[str, int]:
    """Return the bytes of every tensor that the graph computes for a batch, by shape inference.

    Raises:
        RefusedError: the size of a tensor can't be told beforehand.
    """
    skeleton = _skeleton(model, batch)
    while True:
        try:
            inferred = shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True).graph
        except Exception as error:  # onnx raises errors of several kinds
            raise RefusedError(f"its shapes don't fit together: {first_line(error)}") from error
        values = [*skeleton.graph.input, *inferred.value_info, *inferred.output]
        shapes = {value.name: _shape(value.type) for value in values}
        outputs = [(node, name) for node in skeleton.graph.node for name in node.output if name]
        unknown = [(node, name) for node, name in outputs if shapes.get(name) is None]
        if not unknown:
            break
        if not _fix_ranges(skeleton.graph, shapes):
            node, name = unknown[0]
            raise RefusedError(f"the size of {node.op_type}'s output {name!r} can't be told beforehand")
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    _check_divisions(model.graph, types)
    computed = {name for node in model.graph.node for name in node.output if name}
    return {name: _bytes(shapes[name] or (), types[name]) for name in computed}


def image_shape(graph: GraphProto) -> tuple[int, int, int]:
    """Return (C, H, W) of the graph's input."""
    channels, height, width = (dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[1:])
    return channels, height, width


def _messages(message: Message) -> Iterator[Message]:
    """Yield the message and all messages inside it, but not what is inside tensors."""
    yield message
    if isinstance(message, TensorProto):
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)


def _check_message(message: Message, graph: GraphProto) -> None:
    if len(UnknownFieldSet(message)):
        raise RefusedError("it has fields that this version of onnx does not know")
    kind = type(message).__name__
    if kind in _REFUSED:
        raise RefusedError(f"it has {_REFUSED[kind]}")
    if isinstance(message, GraphProto) and message is not graph:
        raise RefusedError("it has a graph inside an operation; allowed: one flat graph")
    if isinstance(message, TensorProto):
        _check_tensor(message)
    if isinstance(message, NodeProto) and message.domain not in DOMAINS:
        raise RefusedError(f"it uses an operator of {message.domain!r}; allowed: those of ONNX itself")


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise RefusedError(f"tensor {tensor.name!r} is stored in another file; allowed: inside the file")
    if tensor.data_type == TensorProto.STRING:
        raise RefusedError(f"tensor {tensor.name!r} holds text; allowed: numbers")
    try:
        numpy_helper.to_array(tensor)
    except Exception as error:  # onnx and numpy raise errors of several kinds
        raise RefusedError(f"tensor {tensor.name!r} does not hold what its shape says: {first_line(error)}") from error


def _check_names(model: ModelProto) -> None:
    graph = model.graph
    if len(graph.node) > NODES:
        raise RefusedError(f"it has {len(graph.node)} operations (allowed: {NODES})")
    names = [value.name for value in [*graph.input, *graph.initializer]]
    names += [name for node in graph.node for name in node.output if name]
    if len(set(names)) != len(names):
        raise RefusedError("two of its tensors have the same name")
    if any(prop.key == _SESSION_CONFIG for prop in model.metadata_props):
        raise RefusedError("its metadata holds options for onnxruntime")


def _check_ends(graph: GraphProto) -> None:
    """Check that the graph maps float32 images [batch, C, H, W] to float32 logits [batch, K]."""
    for values, name, rank in ((graph.input, INPUT, 4), (graph.output, OUTPUT, 2)):
        told = "; ".join(f"{value.name} {_described(value.type)}" for value in values)
        if [value.name for value in values] != [name]:
            raise RefusedError(f"its ends are {told or 'none'}; allowed: one input {INPUT!r}, one output {OUTPUT!r}")
        tensor = values[0].type.tensor_type
        dims = tensor.shape.dim
        fixed = [dim.dim_value for dim in dims[1:]]
        if tensor.elem_type != TensorProto.FLOAT or len(dims) != rank or min(fixed, default=0) < 1:
            raise RefusedError(f"its end is {told}; allowed: float32 of {rank} dimensions, all but the first fixed")
        if dims[0].dim_param != BATCH:
            raise RefusedError(f"its end is {told}; allowed as the first dimension: {BATCH}")


def _check_propagated(graph: GraphProto) -> None:
    """Check that shape inference, which computes with small integer tensors one number at a time, has little to do.

    A Range, or a Concat of Concats, of a few bytes would otherwise fill the memory before any size is known.
    """
    known = _scalars(graph)
    count = {tensor.name: prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in _WHOLE}
    total = 0
    for node in graph.node:
        given = [count.get(name, 0) for name in node.input]
        if node.op_type == "Constant":
            entries = sum(max(prod(each.t.dims), len(each.ints)) for each in node.attribute)
        elif node.op_type == "Range" and all(name in known for name in node.input):
            entries = _range_length(node, known)
        elif node.op_type == "Concat":
            entries = sum(given)
        elif node.op_type == "Gather":
            entries = given[1] if given[0] else 0
        elif node.op_type in _PROPAGATES:
            entries = max(given, default=0)
        else:
            continue
        total += entries
        if entries > LONGEST or total > LONGEST_TOTAL:
            raise RefusedError(f"{node.op_type}'s output {node.output[0]!r} is {entries} whole numbers in a row")
        count[node.output[0]] = entries


def _check_divisions(graph: GraphProto, types: dict[str, int]) -> None:
    """Check that whole numbers are divided by positive constants only.

    The processor stops a program that divides the smallest whole number by -1, and onnxruntime does not prevent it.
    """
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type in ("Div", "Mod") and types.get(node.output[0]) in _WHOLE:
            divisor = constants.get(node.input[1])
            if divisor is None or not (numpy_helper.to_array(divisor) > 0).all():
                raise RefusedError(
                    f"{node.op_type} divides whole numbers by {node.input[1]!r}; allowed: a positive constant"
                )


def _described(of: TypeProto) -> str:
    dims = [dim.dim_param or dim.dim_value for dim in of.tensor_type.shape.dim]
    return f"{TensorProto.DataType.Name(of.tensor_type.elem_type)} {dims}"


def _skeleton(model: ModelProto, batch: int) -> ModelProto:
    """Return the graph for a fixed batch, its large constants replaced by inputs of their shapes."""
    skeleton = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, source = skeleton.graph, model.graph
    graph.name = source.name
    graph.node.extend(source.node)
    channels, height, width = image_shape(source)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, channels, height, width]))
    classes = source.output[0].type.tensor_type.shape.dim[1].dim_value
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, classes]))
    for tensor in source.initializer:
        if prod(tensor.dims) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return skeleton


def _fix_ranges(graph: GraphProto, shapes: dict[str, tuple[int, ...] | None]) -> bool:
    """Replace Range operations whose length depends on known shapes alone; return whether there were any.

    Shape inference knows no length of a Range over the batch, which indexing of a batch is written as.
    """
    known = _scalars(graph)
    fixed: list[tuple[NodeProto, int]] = []
    for node in graph.node:
        if node.op_type == "Shape" and (shape := shapes.get(node.input[0])) is not None:
            bounds = {attribute.name: attribute.i for attribute in node.attribute}
            known[node.output[0]] = np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))])
        elif node.op_type == "Squeeze" and node.input[0] in known and known[node.input[0]].size == 1:
            known[node.output[0]] = known[node.input[0]].reshape(())
        elif node.op_type == "Range" and all(name in known for name in node.input):
            fixed.append((node, _range_length(node, known)))
    for node, length in fixed:
        graph.node.remove(node)
        graph.input.append(helper.make_tensor_value_info(node.output[0], TensorProto.INT64, [length]))
    return bool(fixed)


def _scalars(graph: GraphProto) -> dict[str, np.ndarray]:
    constants = _constants(graph)
    return {name: numpy_helper.to_array(tensor) for name, tensor in constants.items() if prod(tensor.dims) == 1}


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the tensors of the graph that are the same for all images, by name."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    return constants


def _range_length(node: NodeProto, known: dict[str, np.ndarray]) -> int:
    start, limit, step = (known[name].item() for name in node.input)
    if not step:
        raise RefusedError("it has a Range of step 0")
    return int(max(0, ceil((limit - start) / step)))


def _shape(of: TypeProto) -> tuple[int, ...] | None:
    """Return a tensor type's shape; None where a dimension is not known."""
    dims = of.tensor_type.shape.dim
    if not of.tensor_type.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)


def _bytes(shape: tuple[int, ...], of: int) -> int:
    return prod(shape) * max(1, helper.tensor_dtype_to_np_dtype(of).itemsize)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type's name; never more than 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
