"""The forward pass of all replicas of a simple network as one computation. Replicas differ only in their seeds.

Each layer is one batched operation on the stacked weights of all replicas. `torch.func.vmap` with
`torch.func.functional_call` gives the same result, but takes more time in each step.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdmodels.networks.layers import Dropout, Normalise
from kdmodels.networks.taps import Tap

STACKABLE = {nn.Sequential, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Flatten, Normalise, Dropout}
"""Types of layers that draw no random numbers and are faster if all replicas run as one computation."""


def is_stackable(network: nn.Module) -> bool:
    """Return whether `run_stacked` can run all replicas of a network as one computation.

    The types of all layers must be in `STACKABLE`, and batch norm must have a momentum. Convolutional networks are not
    stackable, because it is faster to train their replicas one by one (benchmarks/LOG.md).
    """
    return all(type(module) in STACKABLE and getattr(module, "momentum", 0) is not None for module in network.modules())


def run_stacked(
    network: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, taps: Mapping[str, Tap]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run S replicas of a network, each on its own batch of images.

    In training mode, the running statistics of batch norm in `tensors` are updated in place.

    Args:
        network: Network for which `is_stackable` is true. Its layers and settings are used, but not its weights.
        tensors: Parameters and buffers of all replicas, (S, ...) each, by name.
        images: Images of all replicas, (S, B, ...).
        taps: Taps by name. A tap is a place in the network where features are taken.

    Returns:
        The outputs (S, B, K), and the features (S, B, ...) of each tap by the tap's name.
    """
    recorded: dict[tuple[str, str], Tensor] = {}

    def run(module: nn.Module, path: str, features: Tensor) -> Tensor:
        recorded[path, "input"] = features
        if isinstance(module, nn.Sequential):
            for name, child in module.named_children():
                features = run(child, f"{path}.{name}" if path else name, features)
        else:
            prefix = f"{path}." if path else ""
            state = {name: tensors[prefix + name] for name in _NAMES if prefix + name in tensors}
            features = _layer(module, state, features)
        recorded[path, "output"] = features
        return features

    outputs = run(network, "", images)
    return outputs, {at: recorded[tap.module, tap.side] for at, tap in taps.items()}


_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "mean", "std", "drawn")


def _layer(layer: nn.Module, state: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Run a layer of all S replicas on features (S, B, ...).

    Args:
        layer: Layer of the network. Its type and settings are used, but not its weights.
        state: Parameters and buffers of the layer for all replicas, (S, ...) each, by name.
        features: Inputs of the layer for all replicas.

    Raises:
        TypeError: The type of the layer is not in `STACKABLE`.
    """
    match layer:
        case nn.Linear():
            return _linear(state["weight"], state.get("bias"), features)
        case nn.ReLU():
            return features.relu()
        case nn.Flatten():
            start, end = (dim + 1 if dim >= 0 else dim for dim in (layer.start_dim, layer.end_dim))
            return features.flatten(start, end)
        case nn.BatchNorm1d():
            return _batch_norm(layer, state, features)
        case Dropout():
            return features * state["drawn"] / (1 - layer.p) if layer.training else features
        case Normalise():
            # Divide in place. A new tensor of this size would displace other data from the CPU's cache in each step.
            return (features - state["mean"].unsqueeze(1)).div_(state["std"].unsqueeze(1))  # (S, 1, C, 1, 1) each
    raise TypeError(f"{type(layer).__name__} is not stackable")


def _linear(weight: Tensor, bias: Tensor | None, features: Tensor) -> Tensor:
    """Apply a linear layer of all S replicas to features (S, B, ..., inputs).

    Returns:
        Features (S, B, ..., outputs). In memory, B is the innermost dimension. This layout suits the matrix product of
        the next linear layer.
    """
    rows = features.flatten(1, -2).transpose(1, 2)  # (S, inputs, B)
    # Put the weight on the left, so that its gradient has the same memory layout as the weight and needs no copy.
    product = torch.bmm(weight, rows) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, rows)
    return product.transpose(1, 2).unflatten(1, features.shape[1:-1])


def _batch_norm(layer: nn.BatchNorm1d, state: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Apply the batch norm of each of the S replicas to features (S, B, C) or (S, B, C, L).

    All replicas are normalised in one call of torch's batch norm. For this call, the features are reshaped to one
    example with S * C channels and B * L positions. In training mode, the running statistics in `state` are updated in
    place.

    Args:
        layer: Batch norm layer of the network. Its momentum, epsilon and mode apply to all replicas.
        state: Parameters and buffers of the layer for all replicas, by name.
        features: Inputs of the layer for all replicas.

    Returns:
        Normalised features, in the shape of `features`.
    """
    replicas, _, channels, *rest = features.shape
    flat = {
        name: tensor.flatten() for name, tensor in state.items()
    }  # views, so that torch updates the running statistics in place
    if layer.training and "num_batches_tracked" in flat:
        flat["num_batches_tracked"].add_(1)
    mean = flat.get("running_mean")
    side_by_side = features.transpose(1, 2).reshape(1, replicas * channels, -1)
    out = F.batch_norm(
        side_by_side, mean, flat.get("running_var"), flat.get("weight"), flat.get("bias"),
        training=layer.training or mean is None, momentum=layer.momentum or 0.0, eps=layer.eps,
    )  # fmt: skip
    return out.view(replicas, channels, -1, *rest).transpose(1, 2)
