"""Exported graphs: the same for every network of an architecture, and equal to torch with any weights."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

import kdmodels.serving.graph as module
from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.experiment.architectures import BLOCKS
from kdmodels.files.folders import cache_folder
from kdmodels.networks import Description, initialise
from kdmodels.randomness import generator_for
from kdmodels.serving.graph import FILE_BYTES, IR_VERSION, OPSET, export_graph, fill, graph_of, metadata_of
from kdmodels.serving.model_file import ServedModel

NETWORKS = [
    Network(mlp=[8]),
    Network(mlp=[8, 8], dropout=0.5),
    Network(conv=[4, 6]),
    Network(name="resnet8x4"),
    *(Network.model_validate({"compact": {"block": block, "width": 8, "depth": 2}}) for block in BLOCKS),
]


def described(network: Network, size: int = 8) -> Description:
    shape = (3, size, size)
    return Description(network=network, input_shape=shape, classes=["a", "b", "c"], mean=[0.3] * 3, std=[0.2] * 3)


def trained(description: Description, seed: int) -> nn.Module:
    """A network whose weights and running statistics are as different as training makes them."""
    network = description.build(pretrained=False)
    initialise(network, generator_for(seed, "weights"))
    torch.manual_seed(seed)
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(16, *description.input_shape) + 0.1 * seed)
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def differences(content: bytes, network: nn.Module, shape: tuple[int, ...]) -> float:
    served, worst = ServedModel(content), 0.0
    for count in (1, 2, 7):
        images = torch.rand(count, *shape)
        with torch.no_grad():
            worst = max(worst, float(np.abs(served(images.numpy()) - network(images).numpy()).max()))
    return worst


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: json.dumps(network.model_dump()))
def test_one_graph_serves_every_network_of_an_architecture(network: Network) -> None:
    description = described(network)
    graph = graph_of(description)
    state = description.build().state_dict()
    named = {value.name for value in graph.graph.input} - {"images"}
    assert named == {name for name in state if not name.endswith("num_batches_tracked")}
    for seed in (1, 2):
        made = trained(description, seed)
        assert differences(fill(graph, made.state_dict(), {}), made, (3, 8, 8)) < 2e-5


@pytest.mark.parametrize("size", [(16, 12), (5, 6)], ids=["larger", "smaller"])
@pytest.mark.parametrize("network", [Network(mlp=[8]), Network(conv=[4, 6])], ids=["mlp", "conv"])
def test_a_network_that_resizes_its_input_is_served(network: Network, size: tuple[int, int]) -> None:
    description = described(network).model_copy(update={"size": size})
    made = trained(description, 1)
    assert differences(fill(graph_of(description), made.state_dict(), {}), made, (3, 8, 8)) < 2e-5
    assert graph_of(description) != graph_of(described(network))


def test_a_graph_is_exported_once_and_then_read_from_a_private_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = graph_of(described(Network(mlp=[5])))
    folder = cache_folder() / "graphs"
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size < 2000  # without weights

    def never(*_: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(module, "export_graph", never)
    assert graph_of(described(Network(mlp=[5]))) == first
    other = described(Network(mlp=[5])).model_copy(update={"mean": [0.1] * 3, "classes": ["x", "y", "z"]})
    assert graph_of(other) == first
    for changed in (described(Network(mlp=[6])), described(Network(mlp=[5]), 9)):
        with pytest.raises(AssertionError, match="exported again"):
            graph_of(changed)


def test_a_damaged_cached_graph_is_exported_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = graph_of(described(Network(mlp=[5])))
    (file,) = (cache_folder() / "graphs").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert graph_of(described(Network(mlp=[5]))) == first


def test_a_file_says_what_it_takes_and_names_no_folder_of_this_machine(content: bytes) -> None:
    model = ModelProto.FromString(content)
    (images,), (logits,) = model.graph.input, model.graph.output
    assert [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim] == ["batch", 3, 8, 8]
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["batch", 3]
    assert (model.ir_version, [(each.domain, each.version) for each in model.opset_import]) == (
        IR_VERSION,
        [("", OPSET)],
    )
    about = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(about["kd.classes"]) == ["a", "b", "c"]
    assert about["kd.input_size"] == "8x8"
    assert about["kd.value_range"].startswith("[0, 1]")
    assert about["kd.resize"].startswith("bilinear")
    assert (about["kd.version"], about["kd.run_id"]) == (version("kdflow"), "run-1")
    assert sys.prefix.encode() not in content
    assert str(Path(__file__).parents[3]).encode() not in content
    onnx.checker.check_model(model, full_check=True)


class Spectral(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(images[:, 0])


def test_a_network_without_onnx_form_gives_one_line() -> None:
    with pytest.raises(
        UserError, match=r"^the network can't be written as ONNX, the format of served models: "
    ) as refusal:
        export_graph(Spectral().eval(), (3, 8, 8))
    assert "\n" not in str(refusal.value)


def test_weights_beyond_the_size_of_a_protobuf_give_one_line(
    monkeypatch: pytest.MonkeyPatch, description: Description
) -> None:
    graph, state = graph_of(description), description.build().state_dict()
    monkeypatch.setattr(module, "FILE_BYTES", 2**20 + 3000)
    with pytest.raises(UserError, match=r"^weights of 0\.0 GB do not fit into an ONNX file\. Allowed: 2 GB$"):
        fill(graph, state, {})
    assert FILE_BYTES == 2**31 - 1


def test_weights_of_another_shape_are_not_taken(description: Description) -> None:
    state = description.build().state_dict()
    with pytest.raises(KeyError, match=r"head\.weight"):
        fill(graph_of(description), state | {"head.weight": torch.zeros(3, 7)}, {})


def test_nothing_is_printed_by_an_export(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "from kdmodels.experiment import Network\n"
        "from tests.kdmodels.serving.test_graph import described\n"
        "from kdmodels.serving.graph import export_graph\n"
        "export_graph(described(Network(mlp=[4])).build().eval(), (3, 8, 8))"
    )
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning:kdmodels", "-c", code], check=True)
    assert capfd.readouterr() == ("", "")


def test_metadata_names_grey_and_colour(description: Description) -> None:
    assert metadata_of(description, "r")["kd.input"] == "float32 images (N, 3, 8, 8); RGB"
