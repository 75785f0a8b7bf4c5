"""An ensemble: several teachers in a single network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Network that maps images (B, C, H, W) to the logits (B, M, K) of all M members, for K classes.

    The network does not combine the members' logits. Each loss term combines the logits itself, usually with
    `kdmodels.losses.ensemble_logits` at the temperature of the term.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members], dim=1)
