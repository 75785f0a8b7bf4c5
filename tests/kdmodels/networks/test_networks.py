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


class Bare(nn.Module):
    """A parameter of its own, and no way to draw it anew."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


def test_a_layer_without_a_known_distribution_is_refused() -> None:
    with pytest.raises(TypeError, match="0: no initialisation is known for Bare"):
        initialise(nn.Sequential(Bare()), stream(0, "x"))


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


@pytest.mark.parametrize(
    ("size", "at", "shape"),
    [
        (8, "first", (4, 4, 4)),
        (8, "middle", (6, 2, 2)),
        (8, "deepest", (8, 2, 2)),  # a map of 2x2 is not pooled any more
        (28, "first", (4, 14, 14)),
        (28, "deepest", (8, 3, 3)),
        (28, "last", (8,)),
    ],
)
def test_maps_of_a_convolutional_network(size: int, at: str, shape: tuple[int, ...]) -> None:
    network = build(Network(conv=[4, 6, 8]), **{**SHAPE, "input_shape": (1, size, size)})
    assert find_tap(network, at).shape(network, (1, size, size)) == shape


def test_a_convolutional_network_has_the_parameters_of_its_layers() -> None:
    convolutions, norms, head = 1 * 4 * 9 + 4 * 6 * 9, 2 * 4 + 2 * 6, 6 * 10 + 10
    assert parameters(build(Network(conv=[4, 6]), **SHAPE)) == convolutions + norms + head


def test_any_module_can_be_tapped() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 26 * 26, 10))
    assert find_tap(network, "last").shape(network, (1, 28, 28)) == (2028,)
    assert find_tap(network, "0").shape(network, (1, 28, 28)) == (3, 26, 26)
    with pytest.raises(
        UserError,
        match="no hidden blocks that are known by their names; allowed: last, or a module's dotted name: 0, 1, 2,",
    ):
        find_tap(network, "middle")


def test_last_is_the_input_of_the_head() -> None:
    network = build(Network(mlp=[7, 6]), **SHAPE).eval()
    images = torch.rand(4, 1, 28, 28)
    with find_tap(network, "last").on(network) as caught:
        logits = network(images)
    assert torch.equal(network.head(caught[0]), logits)  # type: ignore[operator]


def test_a_place_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(
        UserError, match=r"at: 'blok1': .* did you mean 'block1'\? allowed: first, middle, deepest, last, normalise"
    ):
        find_tap(build(Network(mlp=[7]), **SHAPE), "blok1")


def test_hooks_are_gone_after_the_context() -> None:
    network = build(Network(mlp=[7]), **SHAPE)
    with find_tap(network, "middle").on(network) as caught:
        pass
    network(torch.rand(1, 1, 28, 28))
    assert caught == []
