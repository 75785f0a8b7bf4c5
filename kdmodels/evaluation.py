"""What a network gets right."""

import torch
from torch import Tensor, nn

from kdmodels.data.dataset import Split

BATCH = 2048  # of a forward pass without gradient


@torch.no_grad()
def predict(network: nn.Module, split: Split) -> Tensor:
    """Logits (N, K) of the network in eval mode."""
    network.eval()
    return torch.cat([network(split.batch(rows)) for rows in torch.arange(len(split)).split(BATCH)])


def correct(network: nn.Module, split: Split) -> Tensor:
    """(N,) bool: which examples the network classifies rightly."""
    return predict(network, split).argmax(dim=1) == split.labels
