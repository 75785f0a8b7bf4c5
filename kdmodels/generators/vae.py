"""A variational autoencoder (VAE), and bounds of the log-likelihood that it assigns to images.

References:
    Kingma, Welling, "Auto-encoding variational Bayes", 2014.
"""

from collections.abc import Sequence
from math import log, pi, prod
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kdmodels.generators.layers import perceptron, with_classes


class Posterior(NamedTuple):
    """The mean and the log-variance of the normal distribution over latent codes for each example, (B, D) each."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return codes drawn from the posterior, (B, D), given standard normal noise, (B, D) (section 2.4)."""
        return self.mean + torch.exp(self.log_variance / 2) * noise


class ElboParts(NamedTuple):
    """The two parts of the negative evidence lower bound (ELBO) of each example, (B,) each, in nats.

    Attributes:
        reconstruction: Binary cross entropy between the image and its reconstruction, summed over pixels.
        kl: Kullback-Leibler divergence of the posterior from the standard normal distribution, summed over the code.
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound of each example, (B,), in nats."""
        return -(self.reconstruction + self.kl)


class Vae(nn.Module):
    """A VAE of fully connected layers with a Bernoulli distribution for each pixel.

    The function `forward` is the decoder, because a stored generator needs only the decoder.

    Args:
        input_shape: Shape (C, H, W) of the images.
        hidden: Sizes of the encoder's hidden layers. The decoder's hidden layers have the same sizes in reverse order.
        latent: Size D of a latent code.
        classes: Number of classes of a conditional VAE, or 0. The class is an input of the encoder and the decoder.
    """

    def __init__(self, input_shape: tuple[int, int, int], hidden: Sequence[int], latent: int, classes: int = 0) -> None:
        super().__init__()
        pixels = prod(input_shape)
        self.input_shape, self.latent, self.classes = input_shape, latent, classes
        self.encoder = perceptron([pixels + classes, *hidden, 2 * latent])
        self.decoder = perceptron([latent + classes, *reversed(hidden), pixels])

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """Return the posterior of images in [0, 1], (B, C, H, W). Only a conditional VAE needs the labels, (B,)."""
        outputs = self.encoder(with_classes(images.flatten(1), labels, self.classes))  # (B, 2 D)
        return Posterior(*outputs.chunk(2, dim=1))

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logit of each pixel's probability, (B, C, H, W), for codes, (B, D)."""
        outputs = self.decoder(with_classes(codes, labels, self.classes))
        return outputs.unflatten(1, self.input_shape)

    def pixels(self, outputs: Tensor) -> Tensor:
        """Return the pixels, in [0, 1], for outputs of the decoder's last layer."""
        return torch.sigmoid(outputs)

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images in [0, 1], (B, C, H, W), for codes, (B, D)."""
        return self.pixels(self.decode(codes, labels))


def kl_from_standard_normal(posterior: Posterior) -> Tensor:
    """Return the KL divergence of each posterior from the standard normal distribution, (B,), in nats.

    References:
        Kingma, Welling, 2014, appendix B.

    >>> kl_from_standard_normal(Posterior(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2)))
    tensor([2.])
    """
    mean, log_variance = posterior
    return (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


def reconstruction_error(logits: Tensor, images: Tensor) -> Tensor:
    """Return the binary cross entropy of each image, (B,), in nats, summed over channels and pixels.

    Args:
        logits: Logits of the pixels, (B, C, H, W).
        images: Images in [0, 1], (B, C, H, W).
    """
    return binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(dim=1)


def elbo_parts(vae: Vae, images: Tensor, noise: Tensor, labels: Tensor | None = None) -> ElboParts:
    """Return the parts of the negative ELBO, estimated with one code per image.

    Args:
        vae: The network.
        images: Images in [0, 1], (B, C, H, W).
        noise: Noise from the standard normal distribution, (B, D).
        labels: Class indices, (B,). Only a conditional VAE needs labels.

    References:
        Kingma, Welling, 2014, equation 10.
    """
    posterior = vae.encode(images, labels)
    logits = vae.decode(posterior.sample(noise), labels)
    return ElboParts(reconstruction_error(logits, images), kl_from_standard_normal(posterior))


def importance_weighted_bound(
    vae: Vae, images: Tensor, generator: Generator, *, samples: int, labels: Tensor | None = None
) -> Tensor:
    """Return a lower bound of each image's log-likelihood, (B,), in nats. More samples give a tighter bound.

    With one sample, the expectation of the bound is the ELBO.

    Args:
        vae: The network.
        images: Images in [0, 1], (B, C, H, W).
        generator: Generator that draws the codes.
        samples: Number of codes per image.
        labels: Class indices, (B,). Only a conditional VAE needs labels.

    References:
        Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, equation 8.
    """
    posterior = vae.encode(images, labels)
    log_weights = []
    for _ in range(samples):
        noise = torch.randn(posterior.mean.shape, generator=generator).to(images.device)
        codes = posterior.sample(noise)
        log_likelihood = -reconstruction_error(vae.decode(codes, labels), images)
        log_prior = _log_standard_normal(codes)
        log_posterior = _log_standard_normal(noise) - posterior.log_variance.sum(dim=1) / 2
        log_weights.append(log_likelihood + log_prior - log_posterior)
    return torch.logsumexp(torch.stack(log_weights), dim=0) - log(samples)


def _log_standard_normal(values: Tensor) -> Tensor:
    """Return the log-density of the standard normal distribution, (B,), for values, (B, D)."""
    return -(values**2 + log(2 * pi)).sum(dim=1) / 2
