"""Pretrained weights are read from disk and never downloaded."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import Description, build, initialise, load_network, replaced_head, save_network
from kdmodels.randomness import generator_for
from tests.support.external import RGB, refused, state_of_external

PRETRAINED = Network(torchvision="resnet18", weights="IMAGENET1K_V1")


def test_pretrained_weights_survive_and_the_replaced_head_is_drawn(
    torchvision_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    network = build(PRETRAINED, **RGB)
    initialise(network, generator_for(0, "student"))
    first = {name: tensor.clone() for name, tensor in state_of_external(network).items()}
    head = ["fc.weight", "fc.bias"]
    assert all(torch.equal(first[name], torchvision_weights[name]) for name in first if name not in head)
    assert first["fc.weight"].shape == (5, 512)
    initialise(network, generator_for(1, "student"))
    assert not torch.equal(state_of_external(network)["fc.weight"], first["fc.weight"])
    initialise(network, generator_for(0, "student"))
    assert all(torch.equal(tensor, first[name]) for name, tensor in state_of_external(network).items())
    assert replaced_head(PRETRAINED, 5) == "resnet18 was trained on 1000 classes: its last layer is new, for 5"


def test_all_weights_are_kept_if_the_number_of_classes_is_equal(torchvision_weights: dict[str, Tensor]) -> None:
    network = build(PRETRAINED, **RGB | {"classes": 1000})
    initialise(network, generator_for(0, "student"))
    assert all(torch.equal(tensor, torchvision_weights[name]) for name, tensor in state_of_external(network).items())
    assert replaced_head(PRETRAINED, 1000) == ""


def test_the_error_for_missing_weights_names_url_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = refused({"torchvision": "resnet18", "weights": "DEFAULT"})
    assert message.startswith(
        "network.weights: DEFAULT of resnet18 are not on this disk, and kdflow downloads no weights. Download "
    )
    assert message.endswith(f"resnet18-f37072fd.pth to {tmp_path / 'hub' / 'checkpoints' / 'resnet18-f37072fd.pth'}")
    assert refused({"torchvision": "resnet18", "weights": "V2"}).startswith("network.weights: unknown weights 'V2'. ")
    assert refused({"timm": "resnet18", "weights": "V2"}).startswith(
        "network.weights: unknown weights 'V2'. Allowed: DEF"
    )


def test_poisoned_weights_are_refused_and_nothing_runs(torchvision_weights: dict[str, Tensor], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"fc.weight": Poison(canary)}, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    assert "not readable as these pretrained weights without running code from it" in refused(PRETRAINED.model_dump())
    assert not canary.exists()


class Poison:
    """Unpickling it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return (os.mkdir, (str(self.canary),))


PRETRAINED = Network(torchvision="resnet18", weights="IMAGENET1K_V1")


def test_a_stored_network_comes_back_without_the_file(torchvision_weights: dict[str, Tensor], tmp_path: Path) -> None:
    description = Description(
        network=PRETRAINED, input_shape=(3, 32, 32), classes=list("abcde"), mean=[0.5] * 3, std=[0.2] * 3
    )
    network = description.build()
    save_network(tmp_path, description, network.state_dict())
    (tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth").unlink()
    loaded, _ = load_network(tmp_path)
    assert all(
        torch.equal(tensor, state_of_external(network)[name]) for name, tensor in state_of_external(loaded).items()
    )
    with pytest.raises(UserError, match="was built without its weights"):
        initialise(loaded, generator_for(0, "student"))
