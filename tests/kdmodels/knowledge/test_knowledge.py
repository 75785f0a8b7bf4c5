"""Knowledge: storing does not change the teacher's outputs, and running does not change the teacher."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdmodels.data import Split
from kdmodels.data.augment import View
from kdmodels.errors import UserError
from kdmodels.evaluation.predictions import BATCH
from kdmodels.experiment import Data, Network
from kdmodels.knowledge import LOGITS, LiveTeacher, distil_knowledge, load_knowledge, store_knowledge
from kdmodels.networks import build

IMAGES = torch.rand(5000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
SPLIT = Split(IMAGES, torch.zeros(5000, dtype=torch.int64))
AUGMENT = Data.model_validate({"source": "digits", "augment": [{"jitter": 1}, {"mixup": 0.4}]}).augment


def teacher() -> nn.Sequential:
    return build(Network(mlp=[8, 6]), input_shape=(1, 4, 4), classes=3, mean=[0.5], std=[0.2])


def test_stored_knowledge_is_the_teachers_output_to_half_precision(tmp_path: Path) -> None:
    network = teacher().eval()
    store_knowledge(network, SPLIT, [LOGITS, "last"], tmp_path / "train")
    loaded = load_knowledge(tmp_path / "train", ["last"])
    assert loaded.logits.dtype == torch.float16
    assert torch.allclose(loaded.logits.float(), network(IMAGES), atol=2e-3)
    assert torch.allclose(network.head(loaded.features["last"].float()), network(IMAGES), atol=5e-3)  # type: ignore[operator]


def test_stored_and_in_memory_knowledge_are_bit_identical(tmp_path: Path) -> None:
    network, view = teacher(), View(SPLIT, AUGMENT, seed=1, number=3)
    store_knowledge(network, view, [LOGITS, "middle"], tmp_path)
    stored, kept = load_knowledge(tmp_path, ["middle"]), distil_knowledge(network, view, ["middle"])
    assert torch.equal(stored.logits, kept.logits)
    assert torch.equal(stored.features["middle"], kept.features["middle"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["logits.npy", "middle.npy"]
    assert stored.shapes((1, 4, 4)) == {"middle": (8,)}


def test_each_views_knowledge_is_the_teachers_output_for_that_view(tmp_path: Path) -> None:
    network = teacher().eval()
    rows = torch.tensor([[4, 4999], [17, 0]])
    seen = []
    for number in range(3):
        view = View(SPLIT, AUGMENT, seed=1, number=number)
        store_knowledge(network, view, [LOGITS], tmp_path / str(number))
        said = load_knowledge(tmp_path / str(number)).of(rows, view.batch(rows))[LOGITS]
        with torch.no_grad():
            expected = network(view.batch(rows.flatten())).view(2, 2, 3)
        assert torch.allclose(said, expected, atol=2e-3)
        seen.append(said)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)
    assert not torch.allclose(seen[1], seen[2], atol=1e-2)


def test_the_teacher_is_in_eval_mode_and_stays_unchanged() -> None:
    network = nn.Sequential(teacher(), nn.BatchNorm1d(3)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    knowledge = distil_knowledge(network, SPLIT)
    assert not network.training
    assert not knowledge.logits.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_logits_beyond_half_precision_are_stored_in_float32() -> None:
    network = teacher()
    nn.init.constant_(network.head.bias, 1e6)  # type: ignore[union-attr, arg-type]
    knowledge = distil_knowledge(network, SPLIT)
    assert knowledge.logits.dtype == torch.float32
    assert knowledge.logits.isfinite().all()


def test_one_value_in_the_last_batch_that_does_not_fit_stores_all_in_float32(tmp_path: Path) -> None:
    images = IMAGES.clone()
    images[-1] = 1e5
    network = nn.Sequential(nn.Flatten(), nn.Identity())
    store_knowledge(network, Split(images, SPLIT.labels), [LOGITS, "1"], tmp_path)
    assert torch.equal(load_knowledge(tmp_path).logits, images.flatten(1))
    store_knowledge(network, SPLIT, [LOGITS], tmp_path)
    assert torch.equal(load_knowledge(tmp_path).logits, IMAGES.flatten(1).half())


class Stops(nn.Module):
    """Teacher that fails at the third batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        if self.batches == 3:
            raise KeyboardInterrupt
        return images.flatten(1)


def test_interrupted_writing_leaves_the_existing_files_and_nothing_else(tmp_path: Path) -> None:
    assert len(SPLIT) > 2 * BATCH
    np.save(tmp_path / "logits.npy", np.ones(3))
    with pytest.raises(KeyboardInterrupt):
        store_knowledge(Stops(), SPLIT, [LOGITS], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["logits.npy"]
    assert np.load(tmp_path / "logits.npy").tolist() == [1, 1, 1]


def test_a_live_teachers_outputs_are_the_networks(tmp_path: Path) -> None:
    network = teacher().train()
    live = LiveTeacher(network, ["last", "block1"])
    rows = torch.tensor([[1, 2, 3], [4, 5, 6]])
    said = live.of(rows, IMAGES[rows])
    assert torch.equal(said[LOGITS].flatten(0, 1), network(IMAGES[1:7]))
    assert torch.equal(network.head(said["last"]), said[LOGITS])  # type: ignore[operator]
    assert not said["last"].requires_grad
    assert said["block1"].shape == (2, 3, 8)
    assert live.shapes((1, 4, 4)) == {"last": (6,), "block1": (8,)}
    assert not network.training


def test_an_unknown_place_is_a_users_error() -> None:
    with pytest.raises(UserError, match="at: unknown module 'midle'"):
        distil_knowledge(teacher(), SPLIT, ["midle"])


class Logarithm(nn.Module):
    """Return the logarithm of the first pixel minus 0.5, which is NaN for some images."""

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, 0, 0, :2] - 0.5).log()


def test_outputs_that_are_not_finite_are_an_error_and_nothing_is_stored(tmp_path: Path) -> None:
    count = int((IMAGES[:, 0, 0, :2] <= 0.5).any(dim=1).sum())
    assert 0 < count < len(IMAGES)
    message = rf"^the outputs logits of {count} of 5000 images are NaN or infinite\. Check the weights of the network"
    with pytest.raises(UserError, match=message):
        store_knowledge(Logarithm(), SPLIT, [LOGITS], tmp_path / "train")
    assert list((tmp_path / "train").iterdir()) == []
