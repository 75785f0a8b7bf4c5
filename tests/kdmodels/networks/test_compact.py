"""The shape of compact networks: rows of blocks, and figures that match the built network."""

import pytest
import torch
from torch import nn

from kdmodels.networks.blocks import BLOCKS
from kdmodels.networks.compact import Shape, stages


def test_later_stages_have_more_blocks_and_channels_and_halve_the_map() -> None:
    shape = Shape("plain", width=8, depth=5, input_shape=(3, 28, 28), classes=10)
    assert stages((3, 28, 28)) == 3
    assert shape.rows == [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1)]
    assert shape.stem_stride == 1


def test_the_stem_halves_large_images() -> None:
    assert Shape("plain", 8, 4, (3, 64, 64), 10).stem_stride == 2


@pytest.mark.parametrize("block", BLOCKS)
def test_the_computed_parameters_are_those_of_the_layers(block: str) -> None:
    shape = Shape(block, width=8, depth=4, input_shape=(1, 28, 28), classes=7)
    layers = nn.Sequential(*shape.layers().values())
    assert shape.parameters() == sum(parameter.numel() for parameter in layers.parameters())
    assert layers.eval()(torch.rand(2, 1, 28, 28)).shape == (2, 7)
