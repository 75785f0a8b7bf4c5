"""Measures of generated images, against scipy and against the definitions, image by image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from kdmodels.generators.quality import (
    Moments,
    class_quality,
    collapse,
    frechet_distance,
    precision_and_recall,
)


def points(seed: int, count: int, size: int = 3) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


@given(seeds=st.tuples(st.integers(0, 1000), st.integers(1001, 2000)), scale=st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_the_frechet_distance_equals_the_formula_with_scipys_square_root(seeds: tuple[int, int], scale: float) -> None:
    first, second = points(seeds[0], 50), scale * points(seeds[1], 40) + 1
    covariances = [np.cov(each.double().numpy().T) for each in (first, second)]
    means = [each.double().numpy().mean(axis=0) for each in (first, second)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    distance = frechet_distance(Moments.of(first), Moments.of(second))
    assert distance == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert distance == pytest.approx(frechet_distance(Moments.of(second), Moments.of(first)), rel=1e-6, abs=1e-9)


def test_equal_sets_and_constant_embeddings_have_distance_0() -> None:
    same = Moments.of(points(0, 30))
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-9)
    constant = Moments.of(torch.ones(5, 3))
    assert frechet_distance(constant, constant) == 0
    with pytest.raises(ValueError, match="a covariance needs at least 2 embeddings, got 1"):
        Moments.of(torch.ones(1, 3))


def near(point: torch.Tensor, others: torch.Tensor, neighbours: int) -> bool:
    """Return whether a point is near a set, straight from the definition."""
    for number, other in enumerate(others):
        distances = sorted((other - each).norm() for index, each in enumerate(others) if index != number)
        if (point - other).norm() <= distances[neighbours - 1]:
            return True
    return False


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_and_recall_follow_the_definition(neighbours: int) -> None:
    real, generated = points(0, 25).double(), 1.5 * points(1, 20).double() + 0.5
    precision = np.mean([near(each, real, neighbours) for each in generated])
    recall = np.mean([near(each, generated, neighbours) for each in real])
    assert precision_and_recall(real, generated, neighbours) == (pytest.approx(precision), pytest.approx(recall))


def test_copies_of_one_image_have_full_precision_and_no_recall() -> None:
    real = points(0, 50)
    assert precision_and_recall(real, real[:1].repeat(20, 1)) == (1.0, 0.02)
    assert precision_and_recall(real, real) == (1.0, 1.0)
    with pytest.raises(ValueError, match="expected more than 3 embeddings, got 50 and 3"):
        precision_and_recall(real, real[:3])


def test_the_classifier_sees_clear_images_of_all_classes_or_unclear_ones_of_one_class() -> None:
    labels = torch.arange(4).repeat(5)
    clear = class_quality(50.0 * torch.nn.functional.one_hot(labels, 4), labels)
    assert clear.entropy == pytest.approx(0, abs=1e-6)
    assert (clear.balance, clear.accuracy, clear.shares) == (pytest.approx(1), 1.0, [0.25] * 4)
    unclear = class_quality(torch.zeros(10, 4))
    assert unclear.entropy == pytest.approx(np.log(4))
    assert (unclear.balance, unclear.accuracy) == (0.0, None)


def test_mode_collapse_is_described() -> None:
    even = [0.25] * 4
    assert collapse(even, 0.6, conditional=False) is None
    assert collapse([0.5, 0.5, 0.0, 0.0], 0.6, conditional=False) == "mode collapse: nearly no image is of class 2, 3"
    assert collapse([0.5, 0.5, 0.0, 0.0], 0.6, conditional=True) is None
    message = "mode collapse: only 1.0 % of the real images are near a generated image"
    assert collapse(even, 0.01, conditional=False) == message
