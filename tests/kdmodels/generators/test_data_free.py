"""The parts of the loss of a data-free generator against numpy, its layers, and examples without images."""

import numpy as np
import pytest
import torch

from kdmodels.generators.data_free import convolutions, data_free_parts, without_images

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(6, 4))
EMBEDDING = RANDOM.normal(size=(6, 5))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
PARTS = data_free_parts(torch.from_numpy(LOGITS), torch.from_numpy(EMBEDDING))


def test_the_one_hot_part_is_the_cross_entropy_with_the_largest_class() -> None:
    assert PARTS.one_hot.item() == pytest.approx(-np.log(PROBABILITIES.max(axis=1)).mean())


def test_the_entropy_part_is_the_negative_entropy_of_the_mean_probabilities() -> None:
    shares = PROBABILITIES.mean(axis=0)
    assert PARTS.entropy.item() == pytest.approx((shares * np.log(shares)).sum())


def test_the_activation_part_is_the_negative_mean_of_absolute_values() -> None:
    norms = np.linalg.norm(EMBEDDING, ord=1, axis=1)
    assert PARTS.activation.item() == pytest.approx(-norms.mean() / EMBEDDING.shape[1])


def test_a_class_with_probability_0_has_a_finite_entropy_and_gradient() -> None:
    logits = torch.tensor([[0.0, -1000.0]], requires_grad=True)
    data_free_parts(logits, torch.zeros(1, 1)).entropy.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 10), (1, 1, 2)])
def test_the_layers_make_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    outputs = convolutions(shape, 3, 5)(torch.randn(3, 5))
    assert outputs.shape == (3, np.prod(shape))


def test_examples_without_images_have_only_a_number() -> None:
    split = without_images(7)
    assert len(split) == 7
    assert split.batch(torch.tensor([6, 0])).shape == (2, 0)
    assert split.labels.tolist() == [-1] * 7
