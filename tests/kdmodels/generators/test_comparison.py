"""Comparisons of two generators: against scipy, and how often equal generators are found different."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from kdmodels.generators.comparison import compare_distances, compare_elbos
from kdmodels.generators.quality import Moments, frechet_distance


def points(seed: int, count: int, size: int = 3) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_better_generator_has_a_smaller_distance_and_equal_ones_do_not_differ() -> None:
    real, good, poor = points(0, 300), points(1, 300), points(2, 300) + 0.5
    better = compare_distances(real, good, poor, resamples=100, generator=generator())
    assert better.high < 0
    assert better.p < 1e-6
    expected = [frechet_distance(Moments.of(each), Moments.of(real)) for each in (good, poor)]
    assert better.difference == pytest.approx(expected[0] - expected[1])
    worse = compare_distances(real, poor, good, resamples=100, generator=generator())
    assert worse.p > 1 - 1e-6
    same = compare_distances(real, good, points(3, 300), resamples=100, generator=generator())
    assert 0.05 < same.p < 0.95
    assert same.low < 0 < same.high


def test_the_standard_error_is_that_of_new_images() -> None:
    """The difference is measured on many new sets of images, whose spread the bootstrap estimates from one set."""

    def sets(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return points(3 * seed, 200, 2), 0.8 * points(3 * seed + 1, 200, 2), points(3 * seed + 2, 200, 2) + 0.3

    def difference(seed: int) -> float:
        real, first, second = map(Moments.of, sets(seed))
        return frechet_distance(first, real) - frechet_distance(second, real)

    spread = np.std([difference(seed) for seed in range(300)])
    compared = [compare_distances(*sets(seed), resamples=100, generator=generator(seed)) for seed in range(5)]
    errors = [(each.high - each.low) / 2 / 1.96 for each in compared]
    assert np.mean(errors) == pytest.approx(spread, rel=0.2)


def test_equal_generators_are_rarely_found_different() -> None:
    found = 0
    for seed in range(200):
        real, first, second = points(seed, 60, 2), points(seed + 1000, 60, 2) + 0.5, points(seed + 2000, 60, 2) + 0.5
        found += compare_distances(real, first, second, resamples=50, generator=generator(seed)).p < 0.05
    assert found <= 20  # 10 are expected; 21 or more have a probability of 0.001


def test_elbos_are_compared_image_by_image() -> None:
    hard = 50 * points(0, 400, 1)[:, 0]  # images differ more than generators
    first, second = hard + 0.2 + points(1, 400, 1)[:, 0], hard + points(2, 400, 1)[:, 0]
    compared = compare_elbos(first, second)
    expected = ttest_rel(first.numpy(), second.numpy(), alternative="greater")
    assert compared.p == pytest.approx(expected.pvalue, rel=0.1)
    interval = ttest_rel(first.numpy(), second.numpy()).confidence_interval()
    assert (compared.low, compared.high) == pytest.approx((interval.low, interval.high), rel=0.02)
    assert compare_elbos(second, first).p == pytest.approx(1 - compared.p)


def test_the_same_generator_is_not_better_than_itself() -> None:
    values = points(0, 20, 1)[:, 0]
    assert compare_elbos(values, values).p == 1.0
    assert compare_elbos(values + 1, values).p < 1e-9
    with pytest.raises(ValueError, match="expected the same 2 or more images, got 20 and 19 values"):
        compare_elbos(values, values[1:])
