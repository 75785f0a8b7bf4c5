"""Computation of tensor sizes in an ONNX graph. Shape inference gives the sizes before the graph runs."""

from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
    shape_inference,
)

from kdmodels.serving.refusal import RefusedError, first_line

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
CODES, CLASS, IMAGES = "codes", "class", "images"
SMALL = 4096  # shape inference gets the values of constants with at most this number of elements


@dataclass(frozen=True)
class TensorInfo:
    """The shape and element type of a tensor. The element type is a value of `TensorProto.DataType`."""

    shape: tuple[int, ...]
    element_type: int

    @property
    def byte_count(self) -> int:
        """Size of the tensor in bytes."""
        return prod(self.shape) * max(1, helper.tensor_dtype_to_np_dtype(self.element_type).itemsize)


def tensor_bytes(model: ModelProto, batch: int) -> dict[str, int]:
    """Return the size in bytes of each tensor that the graph computes for a batch, by the name of the tensor.

    Args:
        model: The model that contains the graph.
        batch: The number of examples in the batch.

    Raises:
        RefusedError: The size of a tensor can't be determined before the graph runs.
    """
    return {name: tensor.byte_count for name, tensor in infer_tensors(model, batch).items()}


def infer_tensors(model: ModelProto, batch: int) -> dict[str, TensorInfo]:
    """Return the shape and element type of each tensor that the graph computes for a batch, by the tensor's name.

    Args:
        model: The model that contains the graph.
        batch: The number of examples in the batch.

    Raises:
        RefusedError: The shapes of the tensors do not fit together, or the size of a tensor depends on values that are
            unknown before the graph runs.
    """
    skeleton = _skeleton(model, batch)
    while True:
        try:
            inferred = shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True).graph
        except Exception as error:  # onnx raises errors of several types
            raise RefusedError(f"the shapes of the tensors do not fit together: {first_line(error)}") from error
        values = [*skeleton.graph.input, *inferred.value_info, *inferred.output]
        shapes = {value.name: _shape(value.type) for value in values}
        outputs = [(node, name) for node in skeleton.graph.node for name in node.output if name]
        unknown = [(node, name) for node, name in outputs if shapes.get(name) is None]
        if not unknown:
            break
        if not _replace_ranges(skeleton.graph, shapes):
            node, name = unknown[0]
            raise RefusedError(f"the size of {node.op_type}'s output {name!r} is unknown before the graph runs")
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    computed = {name for node in model.graph.node for name in node.output if name}
    return {name: TensorInfo(shapes[name] or (), types[name]) for name in computed}


def fixed_shape(value: ValueInfoProto) -> tuple[int, ...]:
    """Return the shape of one example in an input or an output of a graph, without the batch."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])


def image_shape(value: ValueInfoProto) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of one image in an input or an output of a graph that holds images."""
    channels, height, width = fixed_shape(value)
    return channels, height, width


def constants_of(graph: GraphProto) -> dict[str, TensorProto]:
    """Return the constant tensors of the graph, by name. A constant tensor is the same for all images."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    return constants


def scalars_of(graph: GraphProto) -> dict[str, np.ndarray]:
    """Return the constants of the graph that have exactly one element, by name."""
    constants = constants_of(graph)
    return {name: numpy_helper.to_array(tensor) for name, tensor in constants.items() if prod(tensor.dims) == 1}


def range_length(node: NodeProto, scalars: dict[str, np.ndarray]) -> int:
    """Return the number of elements in the output of a Range operation.

    Args:
        node: The Range operation.
        scalars: The values of the operation's inputs, by name.

    Raises:
        RefusedError: The step is 0.
    """
    start, limit, step = (scalars[name].item() for name in node.input)
    if not step:
        raise RefusedError(f"the step of the Range {node.output[0]!r} is 0")
    return int(max(0, ceil((limit - start) / step)))


def _skeleton(model: ModelProto, batch: int) -> ModelProto:
    """Return a copy of a model with a fixed batch size and without the values of large constants.

    Each large constant becomes an input of the same shape, because shape inference does not need its values.
    """
    skeleton = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, source = skeleton.graph, model.graph
    graph.name = source.name
    graph.node.extend(source.node)
    for values, copies in ((source.input, graph.input), (source.output, graph.output)):
        for value in values:
            copies.append(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [batch, *fixed_shape(value)]))
    for tensor in source.initializer:
        if prod(tensor.dims) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return skeleton


def _replace_ranges(graph: GraphProto, shapes: dict[str, tuple[int, ...] | None]) -> bool:
    """Replace Range operations by inputs of the graph, if the lengths of their outputs follow from known shapes.

    Code that indexes a batch is exported as a Range operation over the batch. Shape inference can't determine the
    length of the operation's output. The length of the new input is fixed.

    Args:
        graph: The graph to change.
        shapes: The shape of each tensor, by the name of the tensor. `None` if the shape is unknown.

    Returns:
        Whether at least one operation was replaced.
    """
    scalars = scalars_of(graph)
    ranges: list[tuple[NodeProto, int]] = []
    for node in graph.node:
        if node.op_type == "Shape" and (shape := shapes.get(node.input[0])) is not None:
            bounds = {attribute.name: attribute.i for attribute in node.attribute}
            scalars[node.output[0]] = np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))])
        elif node.op_type == "Squeeze" and node.input[0] in scalars and scalars[node.input[0]].size == 1:
            scalars[node.output[0]] = scalars[node.input[0]].reshape(())
        elif node.op_type == "Range" and all(name in scalars for name in node.input):
            ranges.append((node, range_length(node, scalars)))
    for node, length in ranges:
        graph.node.remove(node)
        graph.input.append(helper.make_tensor_value_info(node.output[0], TensorProto.INT64, [length]))
    return bool(ranges)


def _shape(kind: TypeProto) -> tuple[int, ...] | None:
    """Return the shape of a tensor type. `None` if a dimension is unknown."""
    dims = kind.tensor_type.shape.dim
    if not kind.tensor_type.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)
