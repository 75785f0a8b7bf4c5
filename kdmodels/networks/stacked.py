"""Replicas of a plain network as one: every layer is one batched operation over stacked weights.

The same as `torch.func.vmap` over `torch.func.functional_call`, without what these two cost in each step.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.networks.layers import Dropout, Normalise
from kdmodels.networks.taps import Tap

STACKABLE = {nn.Sequential, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Flatten, Normalise, Dropout}
"""Of such layers alone several replicas are faster as one computation, and all that they draw is handed in."""


def is_stackable(network: nn.Module) -> bool:
    """Whether all its layers are known here; convolutional replicas are faster one by one (benchmarks/LOG.md)."""
    return all(type(module) in STACKABLE and getattr(module, "momentum", 0) is not None for module in network.modules())


def run_stacked(
    network: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, taps: Mapping[str, Tap]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs (S, B, K) of S replicas, each for its own images, and its features (S, B, ...) at each tap.

    Running statistics of batch norm are moved in place where the network is in training mode.

    Args:
        network: `is_stackable`; only its structure is read.
        tensors: its parameters and buffers of all replicas, (S, ...).
        images: (S, B, ...).
    """
    caught: dict[tuple[str, str], Tensor] = {}

    def run(module: nn.Module, path: str, given: Tensor) -> Tensor:
        caught[path, "input"] = given
        if isinstance(module, nn.Sequential):
            for name, child in module.named_children():
                given = run(child, f"{path}.{name}" if path else name, given)
        else:
            prefix = f"{path}." if path else ""
            own = {name: tensors[prefix + name] for name in _NAMES if prefix + name in tensors}
            given = _layer(module, own, given)
        caught[path, "output"] = given
        return given

    outputs = run(network, "", images)
    return outputs, {at: caught[tap.module, tap.side] for at, tap in taps.items()}


_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "mean", "std", "drawn")


def _layer(layer: nn.Module, own: Mapping[str, Tensor], given: Tensor) -> Tensor:
    """One layer of all replicas, (S, B, ...)."""
    match layer:
        case nn.Linear():
            return _linear(own["weight"], own.get("bias"), given)
        case nn.ReLU():
            return given.relu()
        case nn.Flatten():
            start, end = (dim + 1 if dim >= 0 else dim for dim in (layer.start_dim, layer.end_dim))
            return given.flatten(start, end)
        case nn.BatchNorm1d():
            return _batch_norm(layer, own, given)
        case Dropout():
            return given * own["drawn"] / (1 - layer.p) if layer.training else given
        case Normalise():
            # In place: an array of this size a step less goes through the cache.
            return (given - own["mean"].unsqueeze(1)).div_(own["std"].unsqueeze(1))  # (S, 1, C, 1, 1) each
    raise TypeError(f"{type(layer).__name__} is not stackable")


def _linear(weight: Tensor, bias: Tensor | None, given: Tensor) -> Tensor:
    """(S, B, ..., inputs) to (S, B, ..., outputs); the examples lie last in memory, as the next product reads them."""
    rows = given.flatten(1, -2).transpose(1, 2)  # (S, inputs, B)
    # With the weight on the left its gradient comes out laid out as the weight is, and needs no copy.
    product = torch.bmm(weight, rows) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, rows)
    return product.transpose(1, 2).unflatten(1, given.shape[1:-1])


def _batch_norm(layer: nn.BatchNorm1d, own: Mapping[str, Tensor], given: Tensor) -> Tensor:
    """(S, B, C) or (S, B, C, L): all replicas' channels side by side, of one example with B times L positions."""
    replicas, _, channels, *rest = given.shape
    flat = {name: tensor.flatten() for name, tensor in own.items()}  # views: the running statistics move
    if layer.training and "num_batches_tracked" in flat:
        flat["num_batches_tracked"].add_(1)
    mean = flat.get("running_mean")
    side_by_side = given.transpose(1, 2).reshape(1, replicas * channels, -1)
    out = F.batch_norm(
        side_by_side, mean, flat.get("running_var"), flat.get("weight"), flat.get("bias"),
        training=layer.training or mean is None, momentum=layer.momentum or 0.0, eps=layer.eps,
    )  # fmt: skip
    return out.view(replicas, channels, -1, *rest).transpose(1, 2)
