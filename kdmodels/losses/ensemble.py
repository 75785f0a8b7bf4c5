"""The combination of the logits of an ensemble of teachers."""

import math

from torch import Tensor

from kdmodels.losses.numerics import softened


def ensemble_logits(logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Combine the logits of an ensemble's members into one set of logits, for a loss with temperature T.

    softmax(result / T) is the mean over the members of softmax(logits / T). A loss that softens at temperature T
    depends only on this mean. As T grows, the result tends to the mean of the members' centred logits, apart from an
    offset that is the same for all classes.

    Args:
        logits: Logits of the M members, (B, M, K).
        temperature: Positive temperature of the softmax, T.

    Returns:
        Values of shape (B, K), at most 0.

    Raises:
        ValueError: The temperature is not positive, or the logits are not (B, M, K).

    References:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 1 (the arithmetic mean).

    Example:
        >>> import torch
        >>> two = torch.tensor([[[0.75, 0.25], [0.25, 0.75]]]).log()
        >>> ensemble_logits(two).exp()
        tensor([[0.5000, 0.5000]])
    """
    if logits.dim() != 3:
        raise ValueError(f"logits of an ensemble are (B, M, K), not {tuple(logits.shape)}")
    each = softened(logits, temperature).log_softmax(dim=2)
    return temperature * (each.logsumexp(dim=1) - math.log(logits.shape[1]))
