"""Conversion of ONNX files that other programs wrote, so that kdflow can serve them."""

import json
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto

from kdmodels.serving.model_file import CLASSES, ServedModel
from kdmodels.serving.refusal import RefusedError
from kdmodels.serving.tensor_sizes import BATCH, INPUT, OUTPUT


def served_content(content: bytes, classes: Sequence[str]) -> bytes:
    """Return an ONNX file with kdflow's names of the input and the output, and with the names of the classes.

    If the file already names its classes, these names are kept.

    Args:
        content: The content of an ONNX file of a classifier with one input and one output.
        classes: The names of the classes in the order of the output.

    Raises:
        RefusedError: The file is not an ONNX file with one input and one output, has another number of classes, or
            breaks a rule of `kdmodels.serving.checks`.
    """
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise RefusedError("the file is not ONNX") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise RefusedError(f"the file has {len(inputs)} inputs and {len(model.graph.output)} outputs. Allowed: 1 and 1")
    _rename(model, inputs[0].name, INPUT)
    _rename(model, model.graph.output[0].name, OUTPUT)
    for value in (inputs[0], model.graph.output[0]):
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].dim_param:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]  # shapes with the old name of the batch size; the checks infer all shapes again
    served = ServedModel(model.SerializeToString())
    if not served.classes:
        count = served(np.zeros((1, *served.input_shape), dtype=np.float32)).shape[1]
        if count != len(classes):
            raise RefusedError(f"the file has {count} outputs, but the data have {len(classes)} classes")
        model.metadata_props.add(key=CLASSES, value=json.dumps(list(classes)))
    return model.SerializeToString()


def _rename(model: ModelProto, old: str, new: str) -> None:
    """Rename a tensor of a graph. Subgraphs are ignored, because the checks refuse files with subgraphs."""
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} - {old}
    if new in taken:
        raise RefusedError(f"the file already has another tensor with the name {new}")
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = new
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new
