"""The blocks of compact networks."""

import pytest
import torch
from torch import nn

from kdmodels.experiment import architectures
from kdmodels.networks.blocks import BLOCKS


def test_the_experiment_file_describes_every_block() -> None:
    assert set(BLOCKS) == set(architectures.BLOCKS)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_the_requested_channels_and_halves_the_map_rounding_up(name: str, stride: int) -> None:
    block = BLOCKS[name](8, 16 if stride == 2 else 8, stride).eval()
    maps = block(torch.rand(2, 8, 7, 6))
    assert maps.shape == ((2, 16, 4, 3) if stride == 2 else (2, 8, 7, 6))


@pytest.mark.parametrize("name", BLOCKS)
def test_batch_norm_replaces_the_bias_of_every_convolution(name: str) -> None:
    layers = list(BLOCKS[name](8, 8, 1).modules())
    assert all(layer.bias is None for layer in layers if isinstance(layer, nn.Conv2d))
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
