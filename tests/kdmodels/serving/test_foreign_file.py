"""ONNX files of other programs: their names are replaced, and their outputs stay."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdmodels.serving.foreign_file import served_content
from kdmodels.serving.model_file import CLASSES, ServedModel
from kdmodels.serving.refusal import RefusedError

NAMES = ["a", "b", "c"]
WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def file_of(names: dict[str, str] | None = None, batch: str | int = "n") -> bytes:
    """Return a linear classifier of images (1, 2, 2), with the tensors x, flat and y named as given."""
    x, flat, y = ((names or {}).get(name, name) for name in ("x", "flat", "y"))
    nodes = [helper.make_node("Flatten", [x], [flat], axis=1), helper.make_node("MatMul", [flat, "w"], [y])]
    inputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, 1, 2, 2])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [batch, 3])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, [numpy_helper.from_array(WEIGHTS, "w")])
    graph.value_info.append(helper.make_tensor_value_info(flat, TensorProto.FLOAT, [batch, 4]))
    opsets = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("names", [{}, {"x": "images", "y": "logits"}, {"x": "pixel_values"}])
def test_the_outputs_are_those_of_the_file(names: dict[str, str]) -> None:
    content = file_of(names)
    images = np.random.default_rng(1).random((5, 1, 2, 2), dtype=np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    served = ServedModel(served_content(content, NAMES))
    np.testing.assert_array_equal(served(images), expected)
    assert (served.classes, served.input_shape) == (NAMES, (1, 2, 2))


def test_the_names_of_the_classes_in_the_file_are_kept() -> None:
    model = onnx.load_from_string(file_of())
    model.metadata_props.add(key=CLASSES, value=json.dumps(["z", "y", "x"]))
    assert ServedModel(served_content(model.SerializeToString(), NAMES)).classes == ["z", "y", "x"]


def second_output() -> bytes:
    model = onnx.load_from_string(file_of())
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 4]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "classes", "message"),
    [
        (b"no model", NAMES, "the file is not ONNX"),
        (file_of(), ["a", "b"], "the file has 3 outputs, but the data have 2 classes"),
        (file_of(batch=1), NAMES, "Allowed as the first dimension: batch"),
        (file_of({"flat": "logits"}), NAMES, "the file already has another tensor with the name logits"),
        (second_output(), NAMES, r"the file has 1 inputs and 2 outputs\. Allowed: 1 and 1"),
    ],
)
def test_another_file_is_refused(content: bytes, classes: list[str], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        served_content(content, classes)
