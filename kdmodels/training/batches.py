"""Which examples a step takes: a function of the seed and the epoch."""

import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from kdmodels.randomness import stream


def batch_sizes(examples: int, batch: int) -> list[int]:
    """The sizes of an epoch's batches; a last batch of one joins the one before it.

    >>> batch_sizes(10, 4), batch_sizes(9, 4), batch_sizes(3, 1)
    ([4, 4, 2], [4, 5], [1, 1, 1])
    """
    whole, rest = divmod(examples, batch)
    sizes = [batch] * whole + [rest] * (rest > 0)
    if rest == 1 and whole:
        sizes[-2:] = [batch + 1]
    return sizes


def class_balance(labels: Tensor) -> Tensor:
    """What each example (N,) weighs where all of the K classes count alike: N / (K n_c), whose mean is 1.

    >>> class_balance(torch.tensor([0, 0, 0, 1]))
    tensor([0.6667, 0.6667, 0.6667, 2.0000])
    """
    return torch.from_numpy(compute_sample_weight("balanced", labels.numpy())).float()


def order(examples: int, seed: int, epoch: int, chances: Tensor | None = None) -> Tensor:
    """(N,): the examples of an epoch in their order; each once, or, with chances (N,), drawn with replacement."""
    generator = stream(seed, "order", epoch)
    if chances is None:
        return torch.randperm(examples, generator=generator)
    return torch.multinomial(chances, examples, replacement=True, generator=generator)
