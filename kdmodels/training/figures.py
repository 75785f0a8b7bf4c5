"""The figures of an epoch: what the values of its batches come to.

They are computed after the last batch, all at once: in steps of small layers every operation counts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdmodels.terms import Term
from kdmodels.training.schedule import weight_factor

Figures = dict[str, Tensor]
"""By name, one value a replica: (S,)."""


def weights(terms: Sequence[Term], shares: Sequence[float], device: torch.device) -> Tensor:
    """(N, W): what each of W terms weighs when each of N shares of the training is over."""
    rows = [[term.weight * weight_factor(term, done) for term in terms] for done in shares]
    return torch.tensor(rows, device=device)


def with_loss(values: Tensor, weights: Tensor) -> Tensor:
    """(N, 1 + T, S): the loss of N batches and S replicas, and after it the values (N, T, S).

    Args:
        weights: (N, W), of the first W values, whose weighted sum the loss is.
    """
    loss = (weights.unsqueeze(2) * values[:, : weights.shape[1]]).sum(dim=1, keepdim=True)
    return torch.cat([loss, values], dim=1)


def means(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """(V, S): the means over all examples of values (N, V, S), which are means over batches of these sizes."""
    shares = torch.tensor(sizes, dtype=values.dtype, device=values.device) / sum(sizes)
    return (values * shares.view(-1, 1, 1)).sum(dim=0)


def first_gone(values: Tensor, names: Sequence[str]) -> list[str]:
    """One replica's values (N, 1 + T) that were the first not to be finite; none where all always were.

    The loss, which is the first of them and the sum of others, is named where it alone was not.

    >>> inf = float("inf")
    >>> first_gone(torch.tensor([[3.0, 1.0, 2.0], [inf, 1.0, inf], [inf, inf, inf]]), ["loss", "kd", "hint"])
    ['hint']
    >>> first_gone(torch.tensor([[inf, 3e38, 3e38]]), ["loss", "kd", "hint"])
    ['loss']
    """
    loss, *counts = values.isfinite().sum(dim=0).tolist()
    least = min(counts)
    if least == len(values):
        return ["loss"] if loss < len(values) else []
    return [name for name, count in zip(names[1:], counts, strict=True) if count == least]
