"""Exported files against the networks that they were made from, read by the runtimes that they are for."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from kdmodels.data.split import Split
from kdmodels.experiment import Network
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for
from kdmodels.serving.export import SUFFIXES, Logits, compare, write_int8, write_onnx, write_pt2
from kdmodels.serving.model_file import ServedModel
from tests.support.served import onnx_of

IMAGES = torch.rand(96, 3, 8, 8, generator=generator_for(0, "images"))
NETWORKS = {"mlp": Network(mlp=[64, 32]), "conv": Network(conv=[8, 16])}


@pytest.fixture(scope="module", params=["mlp", "conv"])
def network(request: pytest.FixtureRequest) -> nn.Sequential:
    made = build(NETWORKS[request.param], input_shape=(3, 8, 8), classes=5, mean=[0.5] * 3, std=[0.25] * 3)
    initialise(made, generator_for(1, "weights"))
    return made.eval()


def written(network: nn.Module, kind: str, path: Path) -> Logits:
    if kind == "pt2":
        return write_pt2(network, path, (3, 8, 8))
    served = ServedModel(onnx_of(network, (3, 8, 8)))
    return write_onnx(served, path) if kind == "onnx" else write_int8(served, path, IMAGES[:64])


@pytest.fixture(scope="module", params=list(SUFFIXES))
def exported(request: pytest.FixtureRequest, network: nn.Sequential, tmp_path_factory) -> tuple[str, Path, Logits]:
    path = tmp_path_factory.mktemp("export") / f"network{SUFFIXES[request.param]}"
    return request.param, path, written(network, request.param, path)


def read_again(kind: str, path: Path) -> Logits:
    """By the runtimes themselves, as a stranger reads the file."""
    if kind == "pt2":
        program = torch.export.load(path).module()
        return lambda images: program(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def test_logits_are_the_networks_for_any_size_of_batch(
    exported: tuple[str, Path, Logits], network: nn.Sequential
) -> None:
    kind, path, in_memory = exported
    with torch.no_grad():
        logits = network(IMAGES).numpy()
        # Of int8 no more is promised than some steps of the logits' range, which is cut into 256.
        tolerance = 1e-5 if kind != "int8" else 12 * (logits.max() - logits.min()).item() / 256
        for run in (in_memory, read_again(kind, path)):
            for size in (1, 2, 7, 96):
                assert np.abs(run(IMAGES[:size].numpy()) - logits[:size]).max() <= tolerance


def test_a_file_is_one_file_and_names_no_folder_of_this_machine(exported: tuple[str, Path, Logits]) -> None:
    _, path, _ = exported
    assert list(path.parent.iterdir()) == [path]
    content = path.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert sys.prefix.encode() not in content


def test_a_torch_program_is_written_and_never_read(
    network: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a pt2 file was read")

    monkeypatch.setattr(torch.export, "load", never)
    assert written(network, "pt2", tmp_path / "a.pt2")(IMAGES[:3].numpy()).shape == (3, 5)


def test_int8_holds_integers_and_is_smaller(tmp_path: Path) -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 5)).eval()
    for kind in ("onnx", "int8"):
        written(wide, kind, tmp_path / kind)
    weights = {tensor.data_type for tensor in onnx.load(tmp_path / "int8").graph.initializer if len(tensor.dims) == 2}
    assert weights == {onnx.TensorProto.INT8}
    assert (tmp_path / "int8").stat().st_size < (tmp_path / "onnx").stat().st_size / 3


def test_int8_weights_keep_to_seven_bits(tmp_path: Path) -> None:
    """Full ones saturated on processors without VNNI: logits were off ten times as far."""
    written(nn.Sequential(nn.Flatten(), nn.Linear(192, 16)).eval(), "int8", tmp_path / "wide.int8.onnx")
    model = onnx.load(tmp_path / "wide.int8.onnx")
    (weights,) = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 2]
    assert abs(weights.astype(int)).max() == 64


def logits(*rows: list[float]) -> Logits:
    table = np.array(rows)
    return lambda images: table[images[:, 0, 0, 0].astype(int)]


def test_the_comparison_is_of_labels_classes_and_logits() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1)
    split = Split(images, torch.tensor([0, 1, 1]))
    # The second answer has turned, the third is wrong in both.
    original = logits([2.0, 1.0], [0.0, 3.0], [1.0, 0.0])
    assert compare(original, logits([2.0, 1.5], [3.5, 3.0], [1.0, 0.0]), split) == {
        "examples": 3,
        "accuracy": pytest.approx(2 / 3),
        "exported_accuracy": pytest.approx(1 / 3),
        "agreement": pytest.approx(2 / 3),
        "largest_difference": 3.5,
    }
