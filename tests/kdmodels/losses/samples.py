"""Inputs and modules that several tests of losses share."""

import torch
from torch import Tensor

from kdmodels import losses

EXAMPLES = 9


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([1, 0, 2, 0, 1, -1, 0, 1, -1])  # unequal classes, and two examples without a label


def contrast(negatives: int = 16384, momentum: float = 0.5) -> losses.ContrastiveRepresentation:
    return losses.ContrastiveRepresentation(4, 6, LABELS, width=5, negatives=negatives, momentum=momentum).double()


def drawn_for(module: losses.ContrastiveRepresentation, indices: Tensor, seed: int = 0) -> dict[str, Tensor]:
    return {"drawn": module.draw(indices, torch.Generator().manual_seed(seed))}
