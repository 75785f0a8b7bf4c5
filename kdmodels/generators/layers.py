"""Parts that the generators share: fully connected layers, and latent codes with an optional class."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot


def perceptron(
    sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU, *, dropout: float = 0.0
) -> nn.Sequential:
    """Return fully connected layers of these sizes, with an activation after every layer except the last.

    Args:
        sizes: Size of the input, of each hidden layer and of the output.
        activation: Function that returns a new activation.
        dropout: Probability of dropout after each activation. If it is 0, there is no dropout.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), 1):
        layers.append(nn.Linear(inputs, outputs))
        if number < len(sizes) - 1:
            layers += [activation(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers)


def with_classes(values: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Append the class of each example as a one-hot vector.

    Args:
        values: Values of the examples, (B, D).
        labels: Class indices, (B,). They are not used if `classes` is 0.
        classes: Number of classes, or 0 for an unconditional network.

    Returns:
        The values, (B, D + classes).

    Raises:
        ValueError: The network is conditional, and there are no labels.
    """
    if not classes:
        return values
    if labels is None:
        raise ValueError("a conditional network needs a label for each example")
    return torch.cat([values, one_hot(labels, classes).to(values.dtype)], dim=1)


def random_codes(count: int, size: int, generator: Generator) -> Tensor:
    """Return latent codes from the standard normal distribution, (count, size). They are drawn on the CPU."""
    return torch.randn(count, size, generator=generator)
