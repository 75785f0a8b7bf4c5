"""Each network of the catalogue computes the same as the network of the papers' authors."""

import pytest
import torch
from torch import nn

from kdmodels.experiment.architectures import ARCHITECTURES
from kdmodels.networks import parameters
from tests.support.authors import AUTHORS, fill, largest_difference, of_catalogue

DEPTHS = {
    "resnet8": 8,
    "resnet20": 20,
    "resnet44": 44,
    "resnet8x4": 8,
    "resnet50": 16 + 2,  # without the two 1x1 layers of each of its 16 blocks
    "wrn_16_2": 16 - 2,
    "wrn_40_2": 40 - 2,
    "vgg8": 8 - 2,
    "vgg11": 11 - 2,
    "vgg16": 16 - 2,
    "vgg19": 19 - 2,
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_and_outputs_are_those_of_the_authors(name: str) -> None:
    network = of_catalogue(name)
    assert parameters(network) == AUTHORS[name]["parameters"]
    fill(network.state_dict())
    assert largest_difference(network, name) < 1e-4


def test_resnet20s_parameters_by_hand() -> None:
    def convolutions(channels: int, inputs: int) -> int:
        """Of a stage of three blocks of two convolutions, all with batch norm."""
        shortcut = 0 if channels == inputs else inputs * channels + 2 * channels
        return 9 * inputs * channels + 5 * 9 * channels**2 + 6 * 2 * channels + shortcut

    stem, head = 27 * 16 + 2 * 16, 64 * 100 + 100
    by_hand = stem + convolutions(16, 16) + convolutions(32, 16) + convolutions(64, 32) + head
    assert by_hand == AUTHORS["resnet20"]["parameters"]


@pytest.mark.parametrize("name", DEPTHS)
def test_the_depth_in_a_name_counts_the_3x3_and_linear_layers(name: str) -> None:
    """But a WRN's counts its three shortcuts and not its linear layer, a VGG's the three linear layers of its paper."""
    with torch.device("meta"):
        layers = [m for m in of_catalogue(name).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len([m for m in layers if isinstance(m, nn.Linear) or m.kernel_size == (3, 3)]) == DEPTHS[name]
