"""Pretrained weights in a folder of the test."""

from pathlib import Path

import pytest
import torch
from torch import Tensor


@pytest.fixture
def torchvision_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Write random weights of resnet18, for 1,000 classes, where torchvision looks for pretrained weights."""
    from torchvision.models import resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = resnet18(weights=None).state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    return state
