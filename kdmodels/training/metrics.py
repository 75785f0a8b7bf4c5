"""Metrics of an epoch, computed from the values of its batches.

Metrics are computed once per epoch, after the last batch, because every extra operation in a step costs time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdmodels.experiment.terms import Term
from kdmodels.training.schedule import weight_factor

Figures = dict[str, Tensor]
"""The values of S replicas, (S,), by metric name."""


def weights(terms: Sequence[Sequence[Term]], shares: Sequence[float], device: torch.device) -> Tensor:
    """Return the weights of W terms for N batches and S replicas, (N, W, S).

    The weight of a term can change during the training, see `weight_factor`.

    Args:
        terms: For each of the S replicas, its W terms.
        shares: Share of the training that is done at each of the N batches, from 0 to 1.
        device: Device of the result.
    """
    rows = [
        [[term.factor * weight_factor(term, done) for term in same] for same in zip(*terms, strict=True)]
        for done in shares
    ]
    return torch.tensor(rows, device=device)


def with_loss(values: Tensor, weights: Tensor) -> Tensor:
    """Return the loss, followed by all values, (N, 1 + T, S). The loss is the weighted sum of the terms' values.

    Args:
        values: Values of shape (N, T, S): T values of N batches and S replicas. The first W values are those of the
            terms.
        weights: Weights of the W terms, (N, W, S).
    """
    loss = (weights * values[:, : weights.shape[1]]).sum(dim=1, keepdim=True)
    return torch.cat([loss, values], dim=1)


def means(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the means over all examples, (V, S), from the means over each batch.

    Args:
        values: Means over the examples of a batch, (N, V, S): V values of N batches and S replicas.
        sizes: Number of examples of each batch.
    """
    shares = torch.tensor(sizes, dtype=values.dtype, device=values.device) / sum(sizes)
    return (values * shares.view(-1, 1, 1)).sum(dim=0)


def first_nonfinite(values: Tensor, names: Sequence[str]) -> list[str]:
    """Return the names of the values that are infinite or NaN in the first batch that has such a value.

    If all values are finite, the list is empty. If only the loss is infinite or NaN, the list contains only the loss.
    Otherwise, the list leaves out the loss, because the named values are the cause of the infinite or NaN loss.

    Args:
        values: Values of shape (N, 1 + T): the loss and T other values of N batches.
        names: Names of the 1 + T values.

    >>> inf = float("inf")
    >>> first_nonfinite(torch.tensor([[3.0, 1.0, 2.0], [inf, 1.0, inf], [inf, inf, inf]]), ["loss", "kd", "hint"])
    ['hint']
    >>> first_nonfinite(torch.tensor([[inf, 3e38, 3e38]]), ["loss", "kd", "hint"])
    ['loss']
    """
    loss, *counts = values.isfinite().sum(dim=0).tolist()
    least = min(counts)
    if least == len(values):
        return ["loss"] if loss < len(values) else []
    return [name for name, count in zip(names[1:], counts, strict=True) if count == least]
