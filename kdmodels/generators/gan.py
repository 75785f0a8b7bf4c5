"""A generative adversarial network (GAN).

References:
    Goodfellow et al., "Generative adversarial nets", 2014.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from kdmodels.generators.layers import perceptron, with_classes

LEAK = 0.2  # slope of the discriminator's activation for negative inputs


class ImageGenerator(nn.Module):
    """The generator, which maps latent codes to images.

    Args:
        input_shape: Shape (C, H, W) of the images.
        layers: Layers that map codes with one-hot classes, (B, D + classes), to pixels before the tanh, (B, C * H * W).
        latent: Size D of a code.
        classes: Number of classes of a conditional generator, or 0.
    """

    def __init__(self, input_shape: tuple[int, int, int], layers: nn.Module, latent: int, classes: int = 0) -> None:
        super().__init__()
        self.input_shape, self.layers, self.latent, self.classes = input_shape, layers, latent, classes

    def pixels(self, outputs: Tensor) -> Tensor:
        """Return the pixels for outputs of the last layer: their tanh, scaled to [0, 1]."""
        return (torch.tanh(outputs) + 1) / 2

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images in [0, 1], (B, C, H, W), for codes, (B, D)."""
        outputs = self.layers(with_classes(codes, labels, self.classes))
        return self.pixels(outputs).unflatten(1, self.input_shape)


class Discriminator(nn.Module):
    """The discriminator, which tells images of the data from generated images.

    Args:
        input_shape: Shape (C, H, W) of the images.
        hidden: Sizes of the hidden layers.
        classes: Number of classes of a conditional discriminator, or 0.
        dropout: Probability of dropout after each hidden layer.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], hidden: Sequence[int], classes: int = 0, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.classes = classes
        leaky = partial(nn.LeakyReLU, LEAK)
        self.layers = perceptron([prod(input_shape) + classes, *hidden, 1], leaky, dropout=dropout)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logit of the probability that each image comes from the data, (B,).

        The images are in [0, 1], (B, C, H, W). The layers see them in [-1, 1].
        """
        outputs = self.layers(with_classes(2 * images.flatten(1) - 1, labels, self.classes))
        return outputs.squeeze(1)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the binary cross entropy of the discriminator: the mean over real images plus the mean over fake images.

    Args:
        real_logits: Logits of images of the data, (B,).
        fake_logits: Logits of generated images, (B,).

    References:
        Goodfellow et al., 2014, equation 1, negated.

    >>> discriminator_loss(torch.zeros(2), torch.zeros(2))
    tensor(1.3863)
    """
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Return the generator's loss, the mean of -log D(G(z)). The loss has a gradient even if D rejects every image.

    Args:
        fake_logits: Logits of generated images, (B,).

    References:
        Goodfellow et al., 2014, section 3, the objective for the start of the training.

    >>> generator_loss(torch.zeros(2))
    tensor(0.6931)
    """
    return softplus(-fake_logits).mean()
