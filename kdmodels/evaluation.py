"""What a network gets right."""

import torch
from torch import Tensor, nn

from kdmodels.data.dataset import Split
from kdmodels.device import CPU

BATCH = 2048  # of a forward pass without gradient


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, device: torch.device = CPU) -> Tensor:
    """Logits (N, K), on the CPU, of the network in eval mode; it is moved to the device."""
    network.eval().to(device)
    return torch.cat([network(batch.to(device)).cpu() for batch in images.split(BATCH)])


def correct(network: nn.Module, split: Split, device: torch.device = CPU) -> Tensor:
    """(N,) bool: which examples the network classifies rightly."""
    return predict(network, split.images, device).argmax(dim=1) == split.labels
