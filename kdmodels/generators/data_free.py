"""The layers and the loss of a data-free generator, which learns from the outputs of a classifier, without any images.

References:
    Chen et al., "Data-free learning of student networks" (DAFL), 2019, section 3.2. In the paper, the classifier is
    also the teacher of the student that learns from the generated images.
"""

from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdmodels.data.split import Split

LEAK = 0.2  # slope of the activations for negative inputs


def convolutions(output_shape: tuple[int, int, int], channels: int, latent: int) -> nn.Sequential:
    """Return layers that map latent codes, (B, latent), to pixels before the tanh, (B, C * H * W).

    A linear layer makes maps of a quarter of the height and the width. The maps are upsampled twice. Convolutions are
    used because a student learns much less from the images of a fully connected generator.

    Args:
        output_shape: Shape (C, H, W) of the images.
        channels: Number of channels of the maps, at least 2.
        latent: Size of a code.

    References:
        The generator in the code of Chen et al. 2019. It has 128 channels and, unlike this one, a batch normalisation
        after the tanh.
    """
    colours, height, width = output_shape
    quarter, half = ((-(-height // part), -(-width // part)) for part in (4, 2))  # rounded up
    return nn.Sequential(
        nn.Linear(latent, channels * quarter[0] * quarter[1]),
        nn.Unflatten(1, (channels, *quarter)),
        nn.BatchNorm2d(channels),
        nn.Upsample(half),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(LEAK),
        nn.Upsample((height, width)),
        nn.Conv2d(channels, channels // 2, 3, padding=1),
        nn.BatchNorm2d(channels // 2),
        nn.LeakyReLU(LEAK),
        nn.Conv2d(channels // 2, colours, 3, padding=1),
        nn.Flatten(),
    )


class DataFreeParts(NamedTuple):
    """The three parts of the loss of a batch of generated images. Each part is lower for better images.

    Attributes:
        one_hot: Mean cross entropy between the classifier's outputs and their largest class, in nats. It is low if the
            classifier is sure of the class of each image.
        entropy: Negative entropy of the mean class probabilities, in nats. It is low if the classes are equally
            frequent.
        activation: Negative mean of the embedding's absolute values. It is low if the images strongly activate the
            classifier's features.
    """

    one_hot: Tensor
    entropy: Tensor
    activation: Tensor


def data_free_parts(logits: Tensor, embedding: Tensor) -> DataFreeParts:
    """Return the three parts of the loss of a batch.

    The paper takes the L1 norm of the embedding, and divides the entropy by the number of classes. The authors' code
    takes the mean of the absolute values, which does not grow with the network's width, and does not divide the
    entropy. The default weights are those of the code.

    Args:
        logits: The classifier's logits for generated images, (B, K).
        embedding: The input of the classifier's last layer, (B, D).

    References:
        Chen et al., 2019, section 3.2.

    >>> data_free_parts(torch.zeros(4, 2), torch.tensor([[3.0, -1.0]]))
    DataFreeParts(one_hot=tensor(0.6931), entropy=tensor(-0.6931), activation=tensor(-2.))
    """
    log_probabilities = logits.log_softmax(dim=1).logsumexp(dim=0) - log(len(logits))  # of the batch's mean, (K,)
    return DataFreeParts(
        one_hot=cross_entropy(logits, logits.argmax(dim=1)),
        entropy=(log_probabilities.exp() * log_probabilities).sum(),
        activation=-embedding.abs().mean(),
    )


def without_images(count: int) -> Split:
    """Return examples without pixels or labels. The training of a data-free generator uses only their number."""
    return Split(torch.empty(count, 0), torch.full((count,), -1))
