"""Hostile ONNX files: each is refused in one line before onnxruntime gets it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from kdmodels.serving.checks import OPERATIONS
from kdmodels.serving.model_file import ServedModel
from kdmodels.serving.refusal import RefusedError
from kdmodels.serving.tensor_sizes import tensor_bytes

Change = Callable[[ModelProto], None]


def loaded(model: ModelProto) -> ServedModel:
    return ServedModel(model.SerializeToString())


def splice(model: ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes from 'inner' to 'logits' behind the graph."""
    model.graph.node[-1].output[0] = "inner"
    model.graph.node.extend(nodes)


def constant(model: ModelProto, name: str, value: object, kind: type = np.int64) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
    return name


def external(model: ModelProto) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def external_by_path(model: ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="../../../etc/passwd")


def external_in_an_attribute(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    splice(
        model,
        helper.make_node("Constant", [], ["hidden"], value=tensor),
        helper.make_node("Add", ["inner", "hidden"], ["logits"]),
    )


def custom_domain(model: ModelProto) -> None:
    model.opset_import.add(domain="evil", version=1)
    splice(model, helper.make_node("Evil", ["inner"], ["logits"], domain="evil"))


def contrib_operator(model: ModelProto) -> None:
    model.opset_import.add(domain="com.microsoft", version=1)
    splice(model, helper.make_node("FastGelu", ["inner"], ["logits"], domain="com.microsoft"))


def function_body(model: ModelProto) -> None:
    function = helper.make_function(
        "", "Mine", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    )
    model.functions.append(function)
    splice(model, helper.make_node("Mine", ["inner"], ["logits"]))


def branch() -> GraphProto:
    return helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3])],
    )


def subgraph(model: ModelProto) -> None:
    constant(model, "yes", True, np.bool_)
    splice(model, helper.make_node("If", ["yes"], ["logits"], then_branch=branch(), else_branch=branch()))


def nested_subgraphs(model: ModelProto) -> None:
    inner = branch()
    for _ in range(20):
        outer = branch()
        outer.node[0].CopyFrom(
            helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner.__class__())
        )
        inner = outer
    constant(model, "yes", True, np.bool_)
    splice(model, helper.make_node("If", ["yes"], ["logits"], then_branch=inner, else_branch=branch()))


def endless_loop(model: ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    constant(model, "yes", True, np.bool_)
    splice(model, helper.make_node("Loop", ["", "yes", "inner"], ["logits"], body=body))


def sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def training(model: ModelProto) -> None:
    model.training_info.add()


def huge_constant_of_shape(model: ModelProto) -> None:
    constant(model, "shape", [2**20, 2**14])
    splice(
        model,
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def huge_expand(model: ModelProto) -> None:
    constant(model, "shape", [2**33, 1, 1])
    splice(
        model,
        helper.make_node("Expand", ["inner", "shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def huge_tile(model: ModelProto) -> None:
    constant(model, "repeats", [2**32, 1])
    splice(
        model,
        helper.make_node("Tile", ["inner", "repeats"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def huge_resize(model: ModelProto) -> None:
    constant(model, "scales", [1, 1, 2**15, 2**15], np.float32)
    splice(
        model,
        helper.make_node("Resize", ["images", "", "scales"], ["huge"], mode="nearest"),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def huge_range(model: ModelProto) -> None:
    names = [constant(model, name, value) for name, value in (("from", 0), ("to", 2**40), ("by", 1))]
    splice(
        model,
        helper.make_node("Range", names, ["huge"]),
        helper.make_node("Cast", ["huge"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def range_in_a_constant(model: ModelProto) -> None:
    """The same, its bounds being nodes and not initialisers."""
    huge_range(model)
    for at in range(3):
        tensor = model.graph.initializer.pop()
        model.graph.node.insert(at, helper.make_node("Constant", [], [tensor.name], value=tensor))


def concatenated_sizes(model: ModelProto) -> None:
    """Shape inference itself would compute 2**40 numbers."""
    constant(model, "d0", [1])
    nodes = [helper.make_node("Concat", [f"d{i}", f"d{i}"], [f"d{i + 1}"], axis=0) for i in range(40)]
    splice(model, *nodes, helper.make_node("Expand", ["inner", "d40"], ["logits"]))


def size_from_pixels(model: ModelProto) -> None:
    """The size of a tensor is a number that the image holds."""
    splice(
        model,
        helper.make_node("ReduceMax", ["images"], ["pixel"], keepdims=0),
        helper.make_node("Cast", ["pixel"], ["count"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["count", constant(model, "zero", [0])], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def square_of_the_batch(model: ModelProto) -> None:
    splice(
        model,
        helper.make_node("Transpose", ["inner"], ["turned"]),
        helper.make_node("MatMul", ["inner", "turned"], ["pairs"]),
        helper.make_node("ReduceMax", ["pairs"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def doubling(model: ModelProto) -> None:
    """Each of 40 short operations doubles the one before."""
    nodes = [helper.make_node("Concat", [f"d{i}", f"d{i}"], [f"d{i + 1}"], axis=1) for i in range(40)]
    splice(
        model,
        helper.make_node("Identity", ["inner"], ["d0"]),
        *nodes,
        helper.make_node("ReduceMax", ["d40"], ["most"], keepdims=0),
        helper.make_node("Add", ["inner", "most"], ["logits"]),
    )


def division_of_the_smallest_number(model: ModelProto) -> None:
    """The processor would stop the whole program."""
    names = [constant(model, "smallest", -(2**63)), constant(model, "minus_one", -1)]
    splice(
        model,
        helper.make_node("Div", names, ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["inner", "float"], ["logits"]),
    )


def remainder_by_a_computed_number(model: ModelProto) -> None:
    constant(model, "one", 1, np.int32)
    splice(
        model,
        helper.make_node("Cast", ["inner"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Neg", ["one"], ["minus_one"]),
        helper.make_node("Mod", ["whole", "minus_one"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["logits"], to=TensorProto.FLOAT),
    )


def shape_beyond_the_data(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def negative_shape(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -4


def text(model: ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"x"]))


def same_name_twice(model: ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def weight_named_as_the_input(model: ModelProto) -> None:
    model.graph.initializer[0].name = "images"


def many_operations(model: ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Identity", ["images"], [f"n{i}"]) for i in range(OPERATIONS)])


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 3]))


def second_output(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["batch", 3]))


def renamed_input(model: ModelProto) -> None:
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]


def input_of_bytes(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def input_of_any_size(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def fixed_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def unknown_field(model: ModelProto) -> None:
    model.MergeFromString(b"\x9a\x3f\x03abc")  # field 1011, which no version of ONNX has


def session_options(model: ModelProto) -> None:
    model.metadata_props.add(key="ort_config", value='{"session_options": {"intra_op_num_threads": 64}}')


def unknown_operator(model: ModelProto) -> None:
    splice(model, helper.make_node("NoSuchThing", ["inner"], ["logits"]))


def shapes_that_do_not_fit(model: ModelProto) -> None:
    splice(model, helper.make_node("MatMul", ["inner", constant(model, "m", np.ones((7, 3)), np.float32)], ["logits"]))


def future_format(model: ModelProto) -> None:
    model.ir_version = 10_000


def class_names_of_another_count(model: ModelProto) -> None:
    (names,) = [prop for prop in model.metadata_props if prop.key == "kd.classes"]
    names.value = '["a", "b"]'


def class_names_nested(model: ModelProto) -> None:
    (names,) = [prop for prop in model.metadata_props if prop.key == "kd.classes"]
    names.value = "[" * 100_000


REFUSED: dict[Change, str] = {
    external: "is stored in another file",
    external_by_path: "is stored in another file",
    external_in_an_attribute: "is stored in another file",
    custom_domain: "the file uses an operator of 'evil'",
    contrib_operator: "the file uses an operator of 'com.microsoft'",
    function_body: "a function of its own",
    subgraph: "a graph inside an operation",
    nested_subgraphs: "a graph inside an operation",
    endless_loop: "a graph inside an operation",
    sparse: "a sparse tensor",
    training: "training information",
    huge_constant_of_shape: "bytes for one image",
    huge_expand: "bytes for one image",
    huge_tile: "bytes for one image",
    huge_resize: "bytes for one image",
    huge_range: r"has \d+ whole numbers\. Allowed: 65536 per tensor",
    concatenated_sizes: r"has \d+ whole numbers\. Allowed: 65536 per tensor",
    range_in_a_constant: r"has \d+ whole numbers\. Allowed: 65536 per tensor",
    size_from_pixels: "is unknown before the graph runs",
    square_of_the_batch: "for 2 images",
    doubling: "bytes for one image",
    division_of_the_smallest_number: r"Div divides whole numbers by 'minus_one'\. Allowed: a positive constant",
    remainder_by_a_computed_number: r"Mod divides whole numbers by 'minus_one'\. Allowed: a positive constant",
    shape_beyond_the_data: "does not fit its shape",
    negative_shape: "Negative dimension value",
    text: "holds text",
    same_name_twice: "have the same name",
    weight_named_as_the_input: "have the same name",
    many_operations: "operations",
    second_input: "the input is images FLOAT",
    second_output: "the output is logits FLOAT",
    renamed_input: "the input is pixels FLOAT",
    input_of_bytes: "the input is images UINT8",
    input_of_any_size: "the input is images FLOAT",
    fixed_batch: "Allowed as the first dimension: batch",
    unknown_field: "fields that this version of onnx does not know",
    session_options: "holds options for onnxruntime",
    unknown_operator: "the ONNX checker refuses the file",
    shapes_that_do_not_fit: "the ONNX checker refuses the file",
    future_format: "the ONNX checker refuses the file",
    class_names_of_another_count: "is not a list of 3 names",
    class_names_nested: "is not JSON",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_a_hostile_file_is_refused_in_one_line(
    model: ModelProto, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(model)(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 3)
    change(model)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("onnxruntime got the file")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    with pytest.raises(RefusedError, match=REFUSED[change]) as refused:
        loaded(model)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("junk", [b"", b"\x08", b"PK\x03\x04" + bytes(100), bytes(1000), b"\x80\x04\x95pickle"])
def test_what_is_no_onnx_file_is_refused(junk: bytes) -> None:
    with pytest.raises(RefusedError):
        ServedModel(junk)


def test_a_file_in_onnxruntimes_own_format_is_refused(content: bytes, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    with pytest.raises(RefusedError):
        ServedModel((tmp_path / "model.ort").read_bytes())


def test_a_batch_that_makes_a_tensor_explode_is_refused_before_it_runs(model: ModelProto) -> None:
    """A size that is zero for one and two images, and (batch - 1) * (batch - 2) * 2**30 for more."""
    one, two, many = (constant(model, name, value) for name, value in (("one", [1]), ("two", [2]), ("many", [2**30])))
    splice(
        model,
        helper.make_node("Shape", ["images"], ["count"], start=0, end=1),
        helper.make_node("Sub", ["count", one], ["less_one"]),
        helper.make_node("Sub", ["count", two], ["less_two"]),
        helper.make_node("Mul", ["less_one", "less_two"], ["product"]),
        helper.make_node("Mul", ["product", many], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["inner", "sum"], ["logits"]),
    )
    served = loaded(model)
    assert served(np.zeros((2, 3, 8, 8), np.float32)).shape == (2, 3)
    with pytest.raises(RefusedError, match="for 5 images"):
        served(np.zeros((5, 3, 8, 8), np.float32))


def test_an_index_beyond_its_tensor_is_refused_in_one_line(model: ModelProto) -> None:
    """Only onnxruntime sees the index, when it runs."""
    constant(model, "far", [2**40])
    splice(
        model,
        helper.make_node("Gather", ["inner", "far"], ["beyond"], axis=1),
        helper.make_node("Add", ["inner", "beyond"], ["logits"]),
    )
    with pytest.raises(RefusedError, match=r"^the model can't be run: .*out of data bounds") as refused:
        loaded(model)(np.zeros((1, 3, 8, 8), np.float32))
    assert "\n" not in str(refused.value)


def test_whole_numbers_may_be_divided_by_a_positive_constant(model: ModelProto) -> None:
    constant(model, "two", 2)
    splice(
        model,
        helper.make_node("Cast", ["inner"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Div", ["whole", "two"], ["half"]),
        helper.make_node("Cast", ["half"], ["logits"], to=TensorProto.FLOAT),
    )
    assert loaded(model)(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 3)


def test_the_sizes_are_those_that_onnxruntime_computes(model: ModelProto) -> None:
    """Every tensor of the graph, asked of onnxruntime as an output of its own."""
    sizes = tensor_bytes(model, 3)
    model.graph.ClearField("output")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sizes)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(list(sizes), {"images": np.zeros((3, 3, 8, 8), np.float32)})
    assert sizes == {name: result.nbytes for name, result in zip(sizes, results, strict=True)}
    assert len(sizes) > 10


def test_a_range_over_the_batch_has_a_known_size(model: ModelProto) -> None:
    """Indexing a batch is exported so, for example in a Swin transformer."""
    constant(model, "zero", 0)
    constant(model, "one", 1)
    splice(
        model,
        helper.make_node("Shape", ["images"], ["count"], start=0, end=1),
        helper.make_node("Squeeze", ["count"], ["scalar"]),
        helper.make_node("Range", ["zero", "scalar", "one"], ["rows"]),
        helper.make_node("Gather", ["inner", "rows"], ["logits"]),
    )
    assert tensor_bytes(model, 5)["rows"] == 5 * 8
    assert loaded(model)(np.zeros((7, 3, 8, 8), np.float32)).shape == (7, 3)


def test_changed_bytes_are_refused_or_harmless(content: bytes) -> None:
    """No changed byte leads to anything but a refusal, or to a model that still runs."""
    generator = np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(300):
        changed = bytearray(content)
        for at in generator.integers(0, len(content), 3):
            changed[at] = generator.integers(0, 256)
        try:
            ServedModel(bytes(changed))
        except RefusedError as error:
            lines.append(str(error))
    assert 0 < len(lines) < 300
    assert not any("\n" in line for line in lines)
