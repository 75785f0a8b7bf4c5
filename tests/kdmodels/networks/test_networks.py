"""Networks: their initial weights, their taps, their parameters."""

from math import sqrt

import pytest
import torch
from torch import nn

from kdmodels.errors import UserError
from kdmodels.experiment import Network
from kdmodels.networks import build, find_tap, initialise, parameters
from kdmodels.randomness import stream

SHAPE = {"input_shape": (1, 28, 28), "classes": 10, "mean": [0.1307], "std": [0.3081]}


def test_the_classic_pair_has_the_published_number_of_parameters() -> None:
    assert parameters(build(Network(mlp=[32]), **SHAPE)) == 784 * 32 + 32 + 32 * 10 + 10
    assert parameters(build(Network(mlp=[128, 64]), **SHAPE)) == 109_386


def test_normalisation_is_the_networks_first_step() -> None:
    network = build(Network(mlp=[3]), **SHAPE)
    image = torch.full((1, 1, 28, 28), 0.1307)
    with find_tap(network, "normalise").on(network) as caught:
        network(image)
    assert caught[0].abs().max() == 0


def test_initial_weights_are_a_function_of_the_generator() -> None:
    one, other = build(Network(mlp=[16]), **SHAPE), build(Network(mlp=[16]), **SHAPE)
    initialise(one, stream(0, "student"))
    initialise(other, stream(0, "student"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    initialise(other, stream(1, "student"))
    assert not torch.equal(one.head.weight, other.head.weight)  # type: ignore[union-attr, arg-type]


def test_initial_weights_have_torchs_own_distribution() -> None:
    layer = nn.Linear(100, 5000)
    initialise(layer, stream(0, "x"))
    for tensor in (layer.weight, layer.bias):
        assert tensor.abs().max() <= 1 / sqrt(100)
        assert tensor.std().item() == pytest.approx(0.1 / sqrt(3), rel=0.05)


def test_a_layer_without_a_known_distribution_is_refused() -> None:
    with pytest.raises(TypeError, match="GRU"):
        initialise(nn.Sequential(nn.GRU(2, 2)), stream(0, "x"))


@pytest.mark.parametrize(
    ("widths", "at", "shape"),
    [
        ([7], "middle", (7,)),
        ([7, 6], "middle", (7,)),
        ([7, 6, 5], "middle", (6,)),
        ([7, 6], "last", (6,)),
        ([7, 6], "block1.linear", (7,)),
        ([7, 6], "head", (10,)),
    ],
)
def test_taps_follow_the_files_words(widths: list[int], at: str, shape: tuple[int, ...]) -> None:
    network = build(Network(mlp=widths), **SHAPE)
    assert find_tap(network, at).shape(network, (1, 28, 28)) == shape


def test_last_is_the_input_of_the_head() -> None:
    network = build(Network(mlp=[7, 6]), **SHAPE).eval()
    images = torch.rand(4, 1, 28, 28)
    with find_tap(network, "last").on(network) as caught:
        logits = network(images)
    assert torch.equal(network.head(caught[0]), logits)  # type: ignore[operator]


def test_a_place_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(UserError, match=r"at: blok1: .* did you mean 'block1'\? allowed: middle, last, normalise"):
        find_tap(build(Network(mlp=[7]), **SHAPE), "blok1")


def test_hooks_are_gone_after_the_context() -> None:
    network = build(Network(mlp=[7]), **SHAPE)
    with find_tap(network, "middle").on(network) as caught:
        pass
    network(torch.rand(1, 1, 28, 28))
    assert caught == []
