"""Networks: their initial weights, their taps, their parameters."""

import torch

from kdmodels.experiment import Network
from kdmodels.networks import build, find_tap, parameters

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


def test_a_convolutional_network_has_the_parameters_of_its_layers() -> None:
    convolutions, norms, head = 1 * 4 * 9 + 4 * 6 * 9, 2 * 4 + 2 * 6, 6 * 10 + 10
    assert parameters(build(Network(conv=[4, 6]), **SHAPE)) == convolutions + norms + head
