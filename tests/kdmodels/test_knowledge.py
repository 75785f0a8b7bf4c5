"""Knowledge: what the teacher says, unchanged by storing it, and the teacher unchanged by saying it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kdmodels.data import Split
from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.knowledge import LOGITS, distil_knowledge, load_knowledge, store_knowledge
from kdmodels.networks import build

IMAGES = torch.rand(5000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
SPLIT = Split(IMAGES, torch.zeros(5000, dtype=torch.int64))


def teacher() -> nn.Sequential:
    return build(Network(mlp=[8, 6]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.2])


def test_stored_knowledge_is_the_teachers_output_to_half_precision(tmp_path: Path) -> None:
    network = teacher().eval()
    store_knowledge(network, SPLIT, [LOGITS, "last"], tmp_path / "train")
    loaded = load_knowledge(tmp_path / "train", ["last"])
    assert loaded.logits.dtype == torch.float16
    assert torch.allclose(loaded.logits.float(), network(IMAGES), atol=2e-3)
    assert torch.allclose(network.head(loaded.features["last"].float()), network(IMAGES), atol=5e-3)  # type: ignore[operator]


def test_the_teacher_is_in_eval_mode_and_nothing_of_it_moves() -> None:
    network = nn.Sequential(teacher(), nn.BatchNorm1d(3)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    knowledge = distil_knowledge(network, SPLIT)
    assert not network.training
    assert not knowledge.logits.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_logits_beyond_half_precision_are_kept_whole() -> None:
    network = teacher()
    nn.init.constant_(network.head.bias, 1e6)  # type: ignore[union-attr, arg-type]
    knowledge = distil_knowledge(network, SPLIT)
    assert knowledge.logits.dtype == torch.float32
    assert knowledge.logits.isfinite().all()


def test_an_unknown_place_is_a_users_error() -> None:
    with pytest.raises(UserError, match="at: 'midle'"):
        distil_knowledge(teacher(), SPLIT, ["midle"])
