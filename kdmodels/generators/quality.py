"""Measures of the quality and the diversity of generated images, from a classifier's outputs.

The classifier is a teacher that was trained on the same data, so no network is downloaded. Its embedding is the input
of its last layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NEIGHBOURS = 3  # the k of precision and recall in the paper
COLLAPSED_RECALL = 0.02  # a lower recall counts as mode collapse
COLLAPSED_SHARE = 0.1  # a class counts as missing if its share of the images is below 0.1 / K, for K classes


@dataclass(frozen=True)
class Moments:
    """The mean, (D,), and the covariance, (D, D), of embeddings, in float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> "Moments":
        """Return the moments of embeddings, (N, D).

        Raises:
            ValueError: There are fewer than 2 embeddings.
        """
        if len(embeddings) < 2:
            raise ValueError(f"a covariance needs at least 2 embeddings, got {len(embeddings)}")
        values = embeddings.double()
        mean = values.mean(dim=0)
        centred = values - mean
        return cls(mean, centred.T @ centred / (len(values) - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared Fréchet distance between two normal distributions with these moments.

    References:
        Dowson, Landau, "The Fréchet distance between multivariate normal distributions", 1982.
        Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017,
        equation 6, which takes the embeddings of an Inception network.

    >>> line = torch.tensor([[0.0], [2.0]])
    >>> frechet_distance(Moments.of(line), Moments.of(line + 3))
    9.0
    """
    distance = (first.mean - second.mean).square().sum()
    root = _square_root(first.covariance)
    product = root @ second.covariance @ root  # has the eigenvalues of the product of both covariances
    trace_of_root = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
    traces = first.covariance.trace() + second.covariance.trace()
    return max(0.0, float(distance + traces - 2 * trace_of_root))


def _square_root(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semidefinite matrix. Rounding errors below 0 are set to 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def precision_and_recall(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Return the precision and the recall of generated images.

    Precision is the share of generated images that are near the set of real images: it measures quality. Recall is the
    share of real images that are near the set of generated images: it measures diversity.

    Each image of a set has a radius: the distance to its `neighbours`-th nearest neighbour in the same set. An image is
    near a set if it lies within the radius of at least one image of the set.

    Args:
        real: Embeddings of real images, (N, D).
        generated: Embeddings of generated images, (M, D).
        neighbours: Rank of the neighbour that sets the radius of an image.

    Raises:
        ValueError: A set has at most `neighbours` embeddings.

    References:
        Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", 2019, section 2.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(f"expected more than {neighbours} embeddings, got {len(real)} and {len(generated)}")
    distances = torch.cdist(real.double(), generated.double())  # (N, M)
    near_real = distances <= _radii(real, neighbours)[:, None]
    near_generated = distances <= _radii(generated, neighbours)[None, :]
    return near_real.any(dim=0).double().mean().item(), near_generated.any(dim=1).double().mean().item()


def _radii(embeddings: Tensor, neighbours: int) -> Tensor:
    """Return the distance of each embedding to its `neighbours`-th nearest neighbour, (N,)."""
    distances = torch.cdist(embeddings.double(), embeddings.double())
    return distances.kthvalue(neighbours + 1, dim=1).values  # the nearest is the embedding itself


@dataclass(frozen=True)
class ClassQuality:
    """Measures of generated images, computed from the predictions of a classifier.

    Attributes:
        entropy: Mean entropy of the class probabilities of an image, in nats. It is low if the images are clear.
        balance: Entropy of the classes' frequencies, divided by its maximum. It is 1 if all classes are equally
            frequent, and 0 if all images are of one class.
        shares: Share of the images in each class, (K,).
        accuracy: Share of the images that are classified as the class they were generated for. `None` for an
            unconditional generator.
    """

    entropy: float
    balance: float
    shares: list[float]
    accuracy: float | None


def class_quality(logits: Tensor, labels: Tensor | None = None) -> ClassQuality:
    """Measure generated images by the predictions of a classifier.

    Args:
        logits: The classifier's logits, (N, K).
        labels: The classes for which the images were generated, (N,), or `None`.

    >>> class_quality(torch.tensor([[9.0, 0.0], [0.0, 9.0]])).balance
    1.0
    """
    log_probabilities = logits.double().log_softmax(dim=1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1).mean().item()
    predicted = logits.argmax(dim=1)
    shares = torch.bincount(predicted, minlength=logits.shape[1]).double() / len(logits)
    balance = -torch.special.xlogy(shares, shares).sum().item() / np.log(logits.shape[1])
    accuracy = None if labels is None else (predicted == labels).double().mean().item()
    return ClassQuality(entropy, float(balance), shares.tolist(), accuracy)


def collapse(shares: Sequence[float], recall: float, *, conditional: bool) -> str | None:
    """Return a sentence that describes mode collapse, or `None` if there is none.

    Args:
        shares: Share of the generated images in each class, (K,).
        recall: The recall of the generated images.
        conditional: Whether the generator is conditional. If true, the shares are not checked, because the caller chose
            the class of each image.
    """
    missing = [str(label) for label, share in enumerate(shares) if share < COLLAPSED_SHARE / len(shares)]
    if missing and not conditional:
        return f"mode collapse: nearly no image is of class {', '.join(missing)}"
    if recall < COLLAPSED_RECALL:
        return f"mode collapse: only {100 * recall:.1f} % of the real images are near a generated image"
    return None
