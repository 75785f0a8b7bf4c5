"""Initial weights are a function of a generator."""

from math import sqrt

import pytest
import torch
from torch import nn

from kdmodels.experiment import Network
from kdmodels.networks import build, initialise
from kdmodels.randomness import generator_for

SHAPE = {"input_shape": (1, 28, 28), "classes": 10, "mean": [0.1307], "std": [0.3081]}


def test_initial_weights_are_a_function_of_the_generator() -> None:
    one, other = build(Network(mlp=[16]), **SHAPE), build(Network(mlp=[16]), **SHAPE)
    initialise(one, generator_for(0, "student"))
    initialise(other, generator_for(0, "student"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    initialise(other, generator_for(1, "student"))
    assert not torch.equal(one.head.weight, other.head.weight)  # type: ignore[union-attr, arg-type]


def test_initial_weights_have_torchs_own_distribution() -> None:
    layer = nn.Linear(100, 5000)
    initialise(layer, generator_for(0, "x"))
    for tensor in (layer.weight, layer.bias):
        assert tensor.abs().max() <= 1 / sqrt(100)
        assert tensor.std().item() == pytest.approx(0.1 / sqrt(3), rel=0.05)


def test_fan_out_is_the_initialisation_of_he_et_al() -> None:
    network = build(Network(name="vgg8"), input_shape=(3, 8, 8), classes=5, mean=[0.5] * 3, std=[0.2] * 3)
    initialise(network, generator_for(0, "student"), fan_out=True)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers[1:]:
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / (layer.out_channels * 9)), rel=0.02)
        assert layer.weight.abs().max() > 3 * layer.weight.std()  # not uniform
        assert layer.bias is not None
        assert not layer.bias.any()
    first = layers[1].weight.clone()
    initialise(network, generator_for(0, "student"), fan_out=True)
    assert torch.equal(layers[1].weight, first)
    assert network.get_parameter("head.bias").any()


class Bare(nn.Module):
    """A parameter of its own, and no way to draw it anew."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


def test_a_layer_without_a_known_distribution_is_refused() -> None:
    with pytest.raises(TypeError, match="0: the initialisation of Bare is unknown"):
        initialise(nn.Sequential(Bare()), generator_for(0, "x"))
