"""The networks of papers: their sizes and shapes."""

import torch

from kdmodels.networks import parameters
from kdmodels.papers.networks import factored, shallow, tutorial_deep, tutorial_light

MNIST = (1, 28, 28)


def test_the_networks_of_ba_and_caruana_have_as_many_parameters_as_the_deep_one() -> None:
    deep = 784 * 256 + 256 + 3 * (256 * 256 + 256) + 256 * 10 + 10
    assert parameters(shallow(MNIST, 10, 505)) == 401_485
    assert abs(parameters(shallow(MNIST, 10, 505)) - deep) < 0.01 * deep
    assert parameters(factored(MNIST, 10, 250, 505)) == 784 * 250 + 250 * 505 + 505 + 505 * 10 + 10
    assert factored(MNIST, 10, 20, 30)(torch.zeros(2, *MNIST)).shape == (2, 10)


def test_the_networks_of_the_tutorial_have_its_sizes() -> None:
    """The tutorial prints 1,186,986 and 267,738 parameters."""
    assert parameters(tutorial_deep(10)) == 1_186_986
    assert parameters(tutorial_light(10)) == 267_738
    images = torch.zeros(2, 3, 32, 32)
    assert tutorial_deep(10)(images).shape == tutorial_light(10)(images).shape == (2, 10)
