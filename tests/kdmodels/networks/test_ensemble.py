"""An ensemble returns the logits of every member."""

import torch
from torch import nn

from kdmodels.networks.ensemble import Ensemble


def test_the_logits_of_the_members_stay_separate() -> None:
    members = [nn.Sequential(nn.Flatten(), nn.Linear(12, 5)) for _ in range(3)]
    images = torch.rand(2, 3, 2, 2)
    logits = Ensemble(members)(images)
    assert logits.shape == (2, 3, 5)
    for number, member in enumerate(members):
        assert torch.equal(logits[:, number], member(images))
