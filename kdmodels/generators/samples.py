"""Images that a generator makes: samples, reconstructions and interpolations."""

import torch
from torch import Generator, Tensor

from kdmodels.generators.gan import ImageGenerator
from kdmodels.generators.layers import random_codes
from kdmodels.generators.vae import Vae

BATCH = 1000


@torch.no_grad()
def sample(network: Vae | ImageGenerator, labels: Tensor, generator: Generator) -> Tensor:
    """Return one generated image for each label, (N, C, H, W) in [0, 1], on the CPU.

    Args:
        network: The generator.
        labels: Class indices, (N,). For an unconditional generator, only the number of labels matters.
        generator: Generator that draws the latent codes.
    """
    device = next(network.parameters()).device
    network.eval()
    codes = random_codes(len(labels), network.latent, generator)
    batches = zip(codes.split(BATCH), labels.split(BATCH), strict=True)
    return torch.cat([network(part.to(device), classes.to(device)).cpu() for part, classes in batches])


@torch.no_grad()
def reconstruct(vae: Vae, images: Tensor, labels: Tensor) -> Tensor:
    """Return the reconstruction of each image, (N, C, H, W). The decoder gets the mean of the image's posterior."""
    return torch.sigmoid(vae.decode(vae.encode(images, labels).mean, labels))


@torch.no_grad()
def interpolate(network: Vae | ImageGenerator, ends: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Return images that change in equal steps from one latent code to another, (P * steps, C, H, W).

    Args:
        network: The generator.
        ends: The two codes of each of P pairs, (P, 2, D).
        labels: The class of each pair, (P,).
        steps: Number of images per pair, including the images of the two codes.
    """
    shares = torch.linspace(0, 1, steps)[None, :, None]  # (1, steps, 1)
    codes = ends[:, :1] * (1 - shares) + ends[:, 1:] * shares  # (P, steps, D)
    images: Tensor = network(codes.flatten(0, 1), labels.repeat_interleave(steps))
    return images


def balanced_labels(count: int, classes: int) -> Tensor:
    """Return labels in which all classes are equally frequent, (count,): 0, 1, ..., classes - 1, 0, 1, ...

    >>> balanced_labels(5, 3)
    tensor([0, 1, 2, 0, 1])
    """
    return torch.arange(count) % classes
