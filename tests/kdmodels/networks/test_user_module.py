"""The user's own network."""

from pathlib import Path

import pytest
import torch

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import build, initialise, sources
from kdmodels.randomness import generator_for
from tests.support.external import SMALL


def own(name: str) -> dict[str, str]:
    return {"module": f"tests.support.networks:{name}"}


def test_a_module_gets_the_arguments_in_its_signature() -> None:
    lazy = build(Network.model_validate({**own("by_function"), "arguments": {"hidden": 9}}), **SMALL)
    assert lazy.network[3].weight.shape == (5, 9)  # type: ignore[index, union-attr]
    initialise(lazy, generator_for(0, "student"))  # its first layer finds its size in a forward pass
    assert lazy.network[1].weight.shape == (9, 48)  # type: ignore[index, union-attr]
    plain = build(Network.model_validate(own("without_questions")), **SMALL)
    assert plain.network[1].weight.shape == (5, 48)  # type: ignore[index, union-attr]
    three = build(Network.model_validate({**own("by_function"), "arguments": {"classes": 5}}), **SMALL)
    assert three(torch.zeros(2, 3, 4, 4)).shape == (2, 5)


@pytest.mark.parametrize(("name", "arguments"), [
    ("with_any_keyword", {}), ("with_any_keyword", {"width": 4}), ("with_any_keyword", {"num_classes": 5}),
    ("with_another_name", {"outputs": 5}),
])  # fmt: skip
def test_a_module_with_any_keyword_gets_the_number_of_classes(name: str, arguments: dict[str, int]) -> None:
    network = build(Network.model_validate({**own(name), "arguments": arguments}), **SMALL)
    assert network(torch.zeros(2, 3, 4, 4)).shape == (2, 5)


def test_a_module_that_does_not_take_the_number_of_classes_is_told_about_its_arguments() -> None:
    line = (
        r"expected logits of shape \(2, 5\) for two images, got \(2, 1000\)\. network\.arguments sets the arguments of"
    )
    with pytest.raises(UserError, match=line):
        build(Network.model_validate(own("with_another_name")), **SMALL)
    with pytest.raises(UserError, match=r"with_any_keyword\(wide=3\) raised TypeError: .*'wide'"):
        build(Network.model_validate({**own("with_any_keyword"), "arguments": {"wide": 3}}), **SMALL)


def test_a_module_in_the_current_folder_is_found_and_its_source_is_digested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    text = "from torch import nn\n\ndef net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))\n"
    Path("mine_of_this_test.py").write_text(text)
    network = Network.model_validate("mine_of_this_test:net")
    assert build(network, **SMALL)(torch.zeros(2, 3, 4, 4)).shape == (2, 5)
    first = sources(network)
    Path("mine_of_this_test.py").write_text(text + "# changed\n")
    assert sources(network) != first
    assert sources(Network(mlp=[3])) == {}
    assert sources(Network(torchvision="resnet18")).keys() == {"torchvision version"}
    assert sources(Network(timm="resnet18")).keys() == {"timm version"}
    with pytest.raises(UserError, match=r"network.module: torch:tensor is not defined in a file"):
        sources(Network.model_validate("torch:tensor"))
