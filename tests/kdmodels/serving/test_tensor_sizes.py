"""Sizes of tensors, compared with sizes computed by hand."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from kdmodels.serving.refusal import RefusedError
from kdmodels.serving.tensor_sizes import BATCH, INPUT, OUTPUT, TensorInfo, tensor_bytes


def linear(classes: int, weight_rows: int = 12) -> ModelProto:
    """A flatten and a matrix product, for images of 3 x 2 x 2."""
    weight = numpy_helper.from_array(np.zeros((weight_rows, classes), dtype=np.float32), "weight")
    nodes = [
        helper.make_node("Flatten", [INPUT], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], [OUTPUT]),
    ]
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, 3, 2, 2])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, classes])
    return helper.make_model(helper.make_graph(nodes, "g", [images], [logits], [weight]))


@pytest.mark.parametrize("batch", [1, 64])
def test_every_computed_tensor_has_its_size(batch: int) -> None:
    sizes = tensor_bytes(linear(classes=5), batch)
    assert sizes["flat"] == batch * 12 * 4
    assert sizes[OUTPUT] == batch * 5 * 4


def test_shapes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(RefusedError, match="do not fit together"):
        tensor_bytes(linear(classes=5, weight_rows=11), 1)


def test_a_scalar_has_the_size_of_one_element() -> None:
    assert TensorInfo((), TensorProto.INT64).byte_count == 8
