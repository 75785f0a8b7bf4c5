"""What a step does to stacked weights: torch's optimisers, weight decay where it belongs, clipping, averaging."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdmodels.recipe import OPTIMIZERS


class Optimizer:
    """Adam, AdamW or SGD over stacked tensors: torch's own fused kernels, one call a step.

    `torch.optim`'s classes would import torch's compiler (2 s) at their first use, and their bookkeeping costs more
    than the kernel where layers are small. Each element is treated by itself, so that stacked rows share nothing.

    Args:
        optimizer: one name, with the arguments of torch's class of that name.
        tensors: what is changed, by name; contiguous.
        undecayed: the names among them that weight decay leaves alone.

    Attributes:
        state: by the tensors' names, what is remembered of each from step to step.
    """

    def __init__(
        self, optimizer: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor], undecayed: Collection[str] = ()
    ) -> None:
        ((self.name, arguments),) = optimizer.items()
        self.arguments = OPTIMIZERS[self.name].model_validate(arguments).model_dump()  # torch's own for the rest
        self.tensors = tensors
        self.decays = {name: 0.0 if name in undecayed else self.arguments["weight_decay"] for name in tensors}
        self.state: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], factor: float) -> None:
        """Change the tensors that have a gradient, with a learning rate of `factor` times the optimizer's."""
        change = self._sgd if self.name == "sgd" else self._adam
        alike: dict[tuple[float, bool], list[str]] = {}  # whether it has had a gradient before matters to momentum
        for name in gradients:
            alike.setdefault((self.decays[name], name in self.state), []).append(name)
        for (decay, _), names in alike.items():
            change(names, [gradients[name].contiguous() for name in names], factor * self.arguments["lr"], decay)

    def remembered(self) -> dict[str, Tensor]:
        """The state, flat: by a tensor's name, a slash, and what it is."""
        return {f"{name}/{key}": value for name, kept in self.state.items() for key, value in kept.items()}

    def restore(self, remembered: Mapping[str, Tensor]) -> None:
        """Go on with what `remembered` gave, on the tensors' device."""
        for flat, value in remembered.items():
            name, _, key = flat.rpartition("/")
            place = self.tensors[name].new_empty(()) if key == "step" else torch.empty_like(self.tensors[name])
            self.state.setdefault(name, {})[key] = place.copy_(value)

    def _adam(self, names: Sequence[str], gradients: list[Tensor], rate: float, decay: float) -> None:
        given = self.arguments
        keys = ("mean", "square", "largest") if given["amsgrad"] else ("mean", "square")
        state = [self._remembered(name, keys) for name in names]
        adam(
            [self.tensors[name] for name in names],
            gradients,
            [kept["mean"] for kept in state],
            [kept["square"] for kept in state],
            [kept["largest"] for kept in state] if given["amsgrad"] else [],
            [kept["step"] for kept in state],
            fused=True,
            decoupled_weight_decay=self.name == "adamw",
            amsgrad=given["amsgrad"],
            beta1=given["betas"][0],
            beta2=given["betas"][1],
            lr=rate,
            weight_decay=decay,
            eps=given["eps"],
            maximize=False,
        )

    def _sgd(self, names: Sequence[str], gradients: list[Tensor], rate: float, decay: float) -> None:
        given = self.arguments
        momenta: list[Tensor | None] = [self.state.get(name, {}).get("momentum") for name in names]
        sgd(
            [self.tensors[name] for name in names],
            gradients,
            momenta,
            fused=True,
            weight_decay=decay,
            momentum=given["momentum"],
            lr=rate,
            dampening=given["dampening"],
            nesterov=given["nesterov"],
            maximize=False,
        )
        for name, momentum in zip(names, momenta, strict=True):
            if momentum is not None:
                self.state[name] = {"momentum": momentum}

    def _remembered(self, name: str, keys: Sequence[str]) -> dict[str, Tensor]:
        if name not in self.state:
            tensor = self.tensors[name]
            self.state[name] = {key: torch.zeros_like(tensor) for key in keys}
            self.state[name]["step"] = torch.zeros((), device=tensor.device)
        return self.state[name]


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


def clipped(gradients: Mapping[str, Tensor], largest: float) -> dict[str, Tensor]:
    """Each replica's gradient, all tensors together, scaled down to a norm of at most `largest`.

    Args:
        gradients: (S, ...), one row a replica.
    """
    norms = torch.stack([torch.linalg.vector_norm(tensor.flatten(1), dim=1) for tensor in gradients.values()])  # (P, S)
    total = torch.linalg.vector_norm(norms, dim=0)  # (S,)
    factors = (largest / (total + 1e-6)).clamp(max=1.0)  # as torch's own clipping
    return {name: tensor * factors.view(-1, *[1] * (tensor.ndim - 1)) for name, tensor in gradients.items()}


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
