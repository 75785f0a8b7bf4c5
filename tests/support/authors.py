"""The networks in the code of papers, of which the tests hold numbers of parameters, names, shapes and logits.

The networks are those of github.com/HobbitLong/RepDistiller at b84f547 (Tian et al. 2020) for 3x32x32 and 100 classes.
Those of github.com/megvii-research/mdistiller at a08d46f have the same state dicts and logits.

`peer_networks.json` holds the number of parameters and every twelfth logit, computed in float64. `fill` and `numbers`
give the weights and the image. `peer_names.json` holds the shapes of the tensors by their names, in order. Instead of
the tensors of a batch norm, it holds the number of channels.
"""

import json
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdmodels.experiment import Network
from kdmodels.networks import build

FOLDER = Path(__file__).parents[1] / "kdmodels" / "networks"
AUTHORS: dict[str, dict[str, Any]] = json.loads((FOLDER / "peer_networks.json").read_text())
NAMES: dict[str, dict[str, int | list[int]]] = json.loads((FOLDER / "peer_names.json").read_text())
PERIOD = 10_007


def of_catalogue(name: str, classes: int = 100) -> nn.Sequential:
    """Build a network of the catalogue that does not normalise images."""
    return build(Network(name=name), input_shape=(3, 32, 32), classes=classes, mean=[0.0] * 3, std=[1.0] * 3)


def authors_state(name: str) -> dict[str, Tensor]:
    """Return the filled state dict of a network of the authors."""
    state: dict[str, Tensor] = {}
    for tensor, shape in NAMES[name].items():
        if isinstance(shape, int):
            norm = nn.BatchNorm2d(shape).state_dict()
            state |= {f"{tensor}.{kind}": value for kind, value in norm.items()}
        else:
            state[tensor] = torch.zeros(shape)
    fill(state)
    return state


@torch.no_grad()
def largest_difference(network: nn.Module, name: str) -> float:
    """Return the largest difference between logits of a network and those of the authors, in standard deviations."""
    logits = network.eval()(2 * numbers(0, (1, 3, 32, 32)).float())[0, ::12]
    expected = torch.tensor(AUTHORS[name]["logits"])
    return float((logits - expected).abs().max() / expected.std())


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


def numbers(place: int, shape: tuple[int, ...]) -> Tensor:
    """Return numbers in [-0.5, 0.5) that look random, for the tensor at a place of a state dict."""
    i, count = torch.arange(PERIOD), torch.Size(shape).numel()
    table = ((31 * i * i + 7919 * i) % PERIOD).double() / PERIOD - 0.5
    return table.roll(37 * place).repeat(-(-count // PERIOD))[:count].view(shape)
