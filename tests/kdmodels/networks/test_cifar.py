"""The catalogue has the published numbers of parameters."""

import pytest
from torch import nn

from kdmodels.experiment import Network
from kdmodels.experiment.architectures import ARCHITECTURES
from kdmodels.networks import build, parameters

PUBLISHED = {  # for 3x32x32 and 100 classes, as of the repository of Tian et al. 2020
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
}
DEPTHS = {"resnet20": 20, "resnet56": 56, "resnet8x4": 8, "wrn_16_2": 16 - 2, "wrn_40_2": 40 - 2, "vgg8": 8 - 2}


def of_name(name: str) -> nn.Sequential:
    return build(Network(name=name), input_shape=(3, 32, 32), classes=100, mean=[0.5] * 3, std=[0.2] * 3)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters(name: str) -> None:
    assert parameters(of_name(name)) == PUBLISHED[name]


def test_resnet20s_parameters_by_hand() -> None:
    def convolutions(channels: int, inputs: int) -> int:
        """Of a stage of three blocks of two convolutions, all with batch norm."""
        shortcut = 0 if channels == inputs else inputs * channels + 2 * channels
        return 9 * inputs * channels + 5 * 9 * channels**2 + 6 * 2 * channels + shortcut

    stem, head = 27 * 16 + 2 * 16, 64 * 100 + 100
    assert stem + convolutions(16, 16) + convolutions(32, 16) + convolutions(64, 32) + head == PUBLISHED["resnet20"]


@pytest.mark.parametrize("name", DEPTHS)
def test_the_depth_in_a_name_counts_the_3x3_and_linear_layers(name: str) -> None:
    """But a WRN's counts its three shortcuts and not its linear layer, a VGG's the three linear layers of its paper."""
    layers = [m for m in of_name(name).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len([m for m in layers if isinstance(m, nn.Linear) or m.kernel_size == (3, 3)]) == DEPTHS[name]
