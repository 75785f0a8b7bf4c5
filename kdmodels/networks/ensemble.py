"""Several teachers as one."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Asks all its members about the same images (B, C, H, W): logits (B, M, K), which `ensemble_logits` joins.

    They are kept apart because how they are joined depends on each term's temperature.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members], dim=1)
