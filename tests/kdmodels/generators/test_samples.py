"""Samples, reconstructions and interpolations of small generators."""

from math import prod

import pytest
import torch

from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.layers import perceptron
from kdmodels.generators.samples import interpolate, reconstruct, sample
from kdmodels.generators.vae import Vae
from kdmodels.randomness import generator_for

SHAPE = (1, 4, 5)


@pytest.fixture
def network() -> ImageGenerator:
    torch.manual_seed(0)
    return ImageGenerator(SHAPE, perceptron([3 + 2, 6, prod(SHAPE)]), 3, classes=2)


def test_samples_depend_on_the_generator_and_the_label_only(network: ImageGenerator) -> None:
    labels = torch.tensor([0, 1, 1])
    first, second = (sample(network, labels, generator_for(0, "test")) for _ in range(2))
    assert first.shape == (3, *SHAPE)
    assert torch.equal(first, second)
    other = sample(network, 1 - labels, generator_for(0, "test"))
    assert not torch.allclose(first, other)


def test_more_samples_than_a_batch_are_made(network: ImageGenerator) -> None:
    images = sample(network, torch.zeros(1001, dtype=torch.long), generator_for(0, "test"))
    assert len(images) == 1001
    assert not torch.equal(images[0], images[1000])


def test_interpolations_begin_and_end_at_the_codes(network: ImageGenerator) -> None:
    ends, labels = torch.randn(2, 2, 3), torch.tensor([0, 1])
    images = interpolate(network, ends, labels, steps=5)
    assert images.shape == (10, *SHAPE)
    for pair in range(2):
        label = labels[pair].expand(1)
        torch.testing.assert_close(images[5 * pair], network(ends[pair, :1], label)[0])
        torch.testing.assert_close(images[5 * pair + 4], network(ends[pair, 1:], label)[0])
        torch.testing.assert_close(images[5 * pair + 2], network(ends[pair].mean(dim=0, keepdim=True), label)[0])


def test_a_vae_that_overfits_reconstructs_its_images() -> None:
    torch.manual_seed(0)
    vae, images, labels = Vae(SHAPE, [32], 8), torch.rand(4, *SHAPE).round(), torch.zeros(4, dtype=torch.long)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(vae.decode(vae.encode(images).mean), images).backward()
        optimizer.step()
    torch.testing.assert_close(reconstruct(vae, images, labels), images, atol=0.1, rtol=0)
