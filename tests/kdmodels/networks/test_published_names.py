"""Checkpoints of RepDistiller and mdistiller load into the networks of the catalogue."""

import argparse
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdmodels.errors import UserError
from kdmodels.networks import load_checkpoint
from tests.support.authors import NAMES, authors_state, largest_difference, of_catalogue


def as_rep_distiller(state: dict[str, Tensor]) -> object:
    return {"opt": argparse.Namespace(model="resnet8x4", learning_rate=0.05), "model": state}


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_each_family_has_the_outputs_of_the_authors_network(name: str, tmp_path: Path) -> None:
    torch.save(as_rep_distiller(authors_state(name)), tmp_path / "ckpt_epoch_240.pth")
    network = of_catalogue(name)
    loaded = load_checkpoint(network, tmp_path / "ckpt_epoch_240.pth", name=name)
    assert [*loaded] == [tensor for tensor in network.state_dict() if not tensor.startswith("normalise.")]
    assert largest_difference(network, name) < 1e-4


def test_the_student_in_a_checkpoint_of_mdistillers_distiller(tmp_path: Path) -> None:
    student, teacher = authors_state("wrn_16_1"), authors_state("vgg8")
    both = {f"module.student.{name}": tensor for name, tensor in student.items()}
    both |= {f"module.teacher.{name}": tensor for name, tensor in teacher.items()}
    torch.save({"epoch": 3, "model": both, "best_acc": -1}, tmp_path / "latest")
    network = of_catalogue("wrn_16_1")
    load_checkpoint(network, tmp_path / "latest", prefix="module.student.", name="wrn_16_1")
    assert largest_difference(network, "wrn_16_1") < 1e-4


def test_another_number_of_classes_is_named(tmp_path: Path) -> None:
    torch.save({"model": authors_state("resnet8x4")}, tmp_path / "x.pth")
    assert message("resnet8x4", tmp_path / "x.pth", classes=10) == (
        f"{tmp_path}/x.pth: the weights under the key model do not fit the network: 2 of another shape: head.weight is "
        "(100, 256), not (10, 256), head.bias is (100,), not (10,). The keys of the file: model"
    )


def shuffled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state in the order of its names, as safetensors files have it."""
    return dict(sorted(state.items()))


def without_buffers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def with_other_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"stage{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("change", [shuffled, without_buffers, with_other_names], ids=lambda change: change.__name__)
def test_names_in_another_order_and_unknown_names_are_refused(change: object, tmp_path: Path) -> None:
    assert callable(change)
    torch.save({"model": change(authors_state("resnet8x4"))}, tmp_path / "x.pth")
    assert "62 missing: stem.0.weight, stem.1.weight, stem.1.bias, …; " in message("resnet8x4", tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_1"])
def test_the_checkpoint_of_another_network_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"model": authors_state("resnet8x4")}, tmp_path / "x.pth")
    assert "missing: stem." in message(name, tmp_path / "x.pth")


def message(name: str, file: Path, classes: int = 100) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(of_catalogue(name, classes), file, name=name)
    return str(caught.value)
