"""Exported files against the networks that they were made from, read by the runtimes that they are for."""

import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from kdmodels.data.dataset import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.export import SUFFIXES, check_format, compare, export, load
from kdmodels.networks import build, initialise
from kdmodels.randomness import stream

IMAGES = torch.rand(96, 3, 8, 8, generator=stream(0, "images"))
NETWORKS = {"mlp": Network(mlp=[64, 32]), "conv": Network(conv=[8, 16])}


@pytest.fixture(scope="module", params=["mlp", "conv"])
def network(request: pytest.FixtureRequest) -> nn.Sequential:
    made = build(NETWORKS[request.param], input_shape=(3, 8, 8), classes=5, mean=[0.5] * 3, std=[0.25] * 3)
    initialise(made, stream(1, "weights"))
    return made.eval()


@pytest.fixture(scope="module", params=list(SUFFIXES))
def exported(request: pytest.FixtureRequest, network: nn.Sequential, tmp_path_factory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("export") / f"network{SUFFIXES[request.param]}"
    export(network, request.param, path, IMAGES[:64])
    return request.param, path


def test_logits_are_the_networks_for_any_size_of_batch(exported: tuple[str, Path], network: nn.Sequential) -> None:
    kind, path = exported
    run = load(path, kind)
    with torch.no_grad():
        logits = network(IMAGES)
    # Of int8 no more is promised than some steps of the logits' range, which is cut into 256.
    tolerance = 1e-5 if kind != "int8" else 12 * (logits.max() - logits.min()).item() / 256
    for size in (1, 2, 7, 96):
        assert (run(IMAGES[:size]) - logits[:size]).abs().max() <= tolerance


def test_a_file_is_one_file_and_names_no_folder_of_this_machine(exported: tuple[str, Path]) -> None:
    _, path = exported
    assert list(path.parent.iterdir()) == [path]
    content = path.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert sys.prefix.encode() not in content


def test_int8_holds_integers_and_is_smaller(network: nn.Sequential, tmp_path: Path) -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 5)).eval()
    for kind in ("onnx", "int8"):
        export(wide, kind, tmp_path / kind, IMAGES[:64])
    weights = {tensor.data_type for tensor in onnx.load(tmp_path / "int8").graph.initializer if len(tensor.dims) == 2}
    assert weights == {onnx.TensorProto.INT8}
    assert (tmp_path / "int8").stat().st_size < (tmp_path / "onnx").stat().st_size / 3


def test_int8_weights_keep_to_seven_bits(tmp_path: Path) -> None:
    """Full ones saturated on processors without VNNI: logits were off ten times as far."""
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 16)).eval()
    export(wide, "int8", tmp_path / "wide.int8.onnx", IMAGES[:64])
    model = onnx.load(tmp_path / "wide.int8.onnx")
    (weights,) = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 2]
    assert abs(weights.astype(int)).max() == 64


class Spectral(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(images[:, 0])


def test_a_network_that_onnx_has_no_form_for_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^this network can't be written as ONNX: .*; allowed: --pt2$"):
        export(Spectral().eval(), "onnx", tmp_path / "spectral.onnx", IMAGES[:4])
    assert list(tmp_path.iterdir()) == []


def logits(*rows: list[float]) -> Callable[[Tensor], Tensor]:
    table = torch.tensor(rows)
    return lambda images: table[images[:, 0, 0, 0].long()]


class Table(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return logits([2.0, 1.0], [0.0, 3.0], [1.0, 0.0])(images)


def test_the_comparison_is_of_labels_classes_and_logits() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1)
    split = Split(images, torch.tensor([0, 1, 1]))
    # The second answer has turned, the third is wrong in both.
    assert compare(Table(), logits([2.0, 1.5], [3.5, 3.0], [1.0, 0.0]), split) == {
        "examples": 3,
        "accuracy": pytest.approx(2 / 3),
        "exported_accuracy": pytest.approx(1 / 3),
        "agreement": pytest.approx(2 / 3),
        "largest_difference": 3.5,
    }


@pytest.mark.parametrize("kind", ["onnx", "int8"])
def test_a_missing_package_is_told_with_what_brings_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_format(kind)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=f"--{kind} needs onnxruntime; install with: pip install kdflow"):
        check_format(kind)
    check_format("pt2")
