"""Comparisons of two generators on the same held-out images."""

from dataclasses import dataclass
from math import sqrt

import torch
from scipy.special import ndtr, ndtri
from torch import Generator, Tensor

from kdmodels.generators.quality import Moments, frechet_distance


@dataclass(frozen=True)
class PairedComparison:
    """The difference between two generators in one measure, on the same held-out images.

    Attributes:
        difference: The challenger's value minus the champion's.
        low, high: Ends of the 95 % interval of the difference.
        p: One-sided p-value. The null hypothesis is that the challenger is not better.
    """

    difference: float
    low: float
    high: float
    p: float


def compare_distances(
    real: Tensor, challenger: Tensor, champion: Tensor, *, resamples: int, generator: Generator
) -> PairedComparison:
    """Compare the Fréchet distances of two generators by a paired bootstrap. The smaller distance is better.

    Each resample draws held-out images, and measures both generators on the same images. The generated images are
    resampled too. The resamples give the standard error of the difference. The interval and the p-value assume that the
    difference is normally distributed with this standard error. Counting resamples could not give p-values below 0.001,
    but the last of many comparisons on a test split needs such p-values.

    Args:
        real: Embeddings of held-out images, (N, D).
        challenger, champion: Embeddings of the images of both generators, (M, D) each.
        resamples: Number of bootstrap resamples.
        generator: Generator that draws the resamples.

    References:
        Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapters 6 and 12.
    """
    difference = _distance(challenger, real) - _distance(champion, real)
    differences = torch.zeros(resamples, dtype=torch.float64)
    for number in range(resamples):
        drawn, first, second = (_resampled(images, generator) for images in (real, challenger, champion))
        differences[number] = _distance(first, drawn) - _distance(second, drawn)
    return _normal(difference, differences.std().item(), sign=-1)


def compare_elbos(challenger: Tensor, champion: Tensor) -> PairedComparison:
    """Compare the evidence lower bounds (ELBO) of two VAEs, image by image. The higher mean is better.

    Args:
        challenger, champion: The ELBO of each held-out image in nats, (N,) each, in the same order.

    Raises:
        ValueError: There are fewer than 2 images, or the numbers of values differ.
    """
    if challenger.shape != champion.shape or len(challenger) < 2:
        raise ValueError(f"expected the same 2 or more images, got {len(challenger)} and {len(champion)} values")
    differences = challenger.double() - champion.double()
    error = differences.std().item() / sqrt(len(differences))
    return _normal(differences.mean().item(), error, sign=1)


def _distance(generated: Tensor, real: Tensor) -> float:
    return frechet_distance(Moments.of(generated), Moments.of(real))


def _resampled(values: Tensor, generator: Generator) -> Tensor:
    return values[torch.randint(len(values), (len(values),), generator=generator)]


def _normal(difference: float, error: float, *, sign: int) -> PairedComparison:
    """Return a comparison whose difference is normally distributed with this standard error.

    Args:
        sign: 1 if a larger value is better, -1 if a smaller value is better.
    """
    margin = float(ndtri(0.975)) * error
    low, high = difference - margin, difference + margin
    if error == 0:  # e.g. the same generator twice
        return PairedComparison(difference, low, high, 0.0 if sign * difference > 0 else 1.0)
    return PairedComparison(difference, low, high, float(ndtr(-sign * difference / error)))
