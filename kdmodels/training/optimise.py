"""What a step does to stacked weights: torch's optimisers, weight decay where it belongs, clipping, averaging."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_optimizer(
    optimizer: dict[str, dict[str, Any]], tensors: Mapping[str, Tensor], undecayed: Collection[str] = ()
) -> torch.optim.Optimizer:
    """The one optimiser that the mapping names, with torch's own arguments; fused: one kernel a step.

    Args:
        tensors: what it changes, by name.
        undecayed: the names among them that weight decay leaves alone.
    """
    ((name, arguments),) = optimizer.items()
    kept = [tensor for key, tensor in tensors.items() if key in undecayed]
    made = OPTIMIZERS[name](tensors.values(), fused=True, **arguments)
    if not kept or not made.defaults["weight_decay"]:
        return made
    decayed = [tensor for key, tensor in tensors.items() if key not in undecayed]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
    return OPTIMIZERS[name]([group for group in groups if group["params"]], fused=True, **arguments)


def norms_and_biases(module: nn.Module) -> set[str]:
    """The names of the parameters that weight decay is kept off: biases, and the scales and shifts of norms.

    All that has one dimension is one of these, in any library's layers; stacked, it would have two.

    >>> sorted(norms_and_biases(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm([3, 1]))))
    ['0.bias', '1.bias', '1.weight']
    """
    return {
        f"{name}.{key}".removeprefix(".")
        for name, layer in module.named_modules()
        for key, parameter in layer.named_parameters(recurse=False)
        if parameter.ndim < 2 or isinstance(layer, nn.LayerNorm)
    }


def clip_gradients(tensors: Collection[Tensor], largest: float) -> None:
    """Scale each replica's gradient, all tensors together, down to a norm of at most `largest`.

    Args:
        tensors: (S, ...), one row a replica.
    """
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])  # (P, S)
    factors = (largest / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(
        max=1.0
    )  # (S,), as torch's own clipping
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))


def average(averages: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, decay: float, step: int) -> None:
    """Move exponential averages in place towards the tensors of the same names, after a step counted from 0.

    The decay rises as (1 + step) / (10 + step) up to its value, so that the random start is soon forgotten. Whole
    numbers, such as batch norm's count of batches, are copied; what is the same tensor in both stays.
    """
    others = {name: tensor for name, tensor in averages.items() if tensor is not tensors[name]}
    moved = [name for name, tensor in others.items() if tensor.is_floating_point()]
    for name in others.keys() - moved:
        others[name].copy_(tensors[name])
    if moved:
        update = get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))
        update([others[name] for name in moved], [tensors[name].detach() for name in moved], step)
