"""Each network of the catalogue computes the same as the network of the papers' authors.

`peer_networks.json` holds the number of parameters and every twelfth logit of the networks of
github.com/HobbitLong/RepDistiller at b84f547 (Tian et al. 2020), for 3x32x32 and 100 classes, computed in float64. The
networks of github.com/megvii-research/mdistiller at a08d46f have the same state dicts and logits. `fill` and `numbers`
give the weights and the image.
"""

import json
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdmodels.experiment import Network
from kdmodels.experiment.architectures import ARCHITECTURES
from kdmodels.networks import build, parameters

PEERS = json.loads(Path(__file__).with_name("peer_networks.json").read_text())
PERIOD = 10_007
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


def of_name(name: str) -> nn.Sequential:
    return build(Network(name=name), input_shape=(3, 32, 32), classes=100, mean=[0.0] * 3, std=[1.0] * 3)


def numbers(place: int, shape: tuple[int, ...]) -> Tensor:
    """Return numbers in [-0.5, 0.5) that look random, for the tensor at a place of a state dict."""
    i, count = torch.arange(PERIOD), torch.Size(shape).numel()
    table = ((31 * i * i + 7919 * i) % PERIOD).double() / PERIOD - 0.5
    return table.roll(37 * place).repeat(-(-count // PERIOD))[:count].view(shape)


def fill(state: dict[str, Tensor]) -> None:
    """Fill the tensors of a state dict with numbers that depend on their place, shape and kind only."""
    filled = [name for name in state if not name.startswith("normalise.") and state[name].is_floating_point()]
    for place, name in enumerate(filled):
        tensor, kind = state[name], name.rpartition(".")[2]
        values = numbers(place, tensor.shape)
        if tensor.dim() > 1:
            tensor.copy_(values * sqrt(24 / tensor[0].numel()))
        else:
            tensor.copy_(1 + values if kind in ("weight", "running_var") else values / 5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_parameters_and_outputs_are_those_of_the_authors(name: str) -> None:
    network = of_name(name).eval()
    assert parameters(network) == PEERS[name]["parameters"]
    fill(network.state_dict())
    logits = network(2 * numbers(0, (1, 3, 32, 32)).float())[0, ::12]
    expected = torch.tensor(PEERS[name]["logits"])
    assert (logits - expected).abs().max() < 1e-4 * expected.std()


def test_resnet20s_parameters_by_hand() -> None:
    def convolutions(channels: int, inputs: int) -> int:
        """Of a stage of three blocks of two convolutions, all with batch norm."""
        shortcut = 0 if channels == inputs else inputs * channels + 2 * channels
        return 9 * inputs * channels + 5 * 9 * channels**2 + 6 * 2 * channels + shortcut

    stem, head = 27 * 16 + 2 * 16, 64 * 100 + 100
    by_hand = stem + convolutions(16, 16) + convolutions(32, 16) + convolutions(64, 32) + head
    assert by_hand == PEERS["resnet20"]["parameters"]


@pytest.mark.parametrize("name", DEPTHS)
def test_the_depth_in_a_name_counts_the_3x3_and_linear_layers(name: str) -> None:
    """But a WRN's counts its three shortcuts and not its linear layer, a VGG's the three linear layers of its paper."""
    with torch.device("meta"):
        layers = [m for m in of_name(name).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len([m for m in layers if isinstance(m, nn.Linear) or m.kernel_size == (3, 3)]) == DEPTHS[name]
