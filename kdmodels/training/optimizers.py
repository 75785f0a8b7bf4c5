"""Updates of stacked weights by torch's optimizers, with weight decay, gradient clipping and averaging."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kdmodels.experiment.optimization import OPTIMIZERS, is_own_optimizer
from kdmodels.training.own_optimizer import OwnOptimizer


class Optimizer:
    """Adam, AdamW or SGD on stacked tensors, which hold all replicas. Each step calls torch's fused kernels.

    The classes of `torch.optim` are not used, for two reasons. At their first use, they import torch's compiler, which
    takes 2 s. For small layers, their bookkeeping takes longer than the kernel. The kernels update each element
    separately, so stacked rows do not affect each other.

    Args:
        optimizer: Mapping with one entry. The key is the name of a class of `torch.optim`, and the value holds its
            arguments.
        tensors: Contiguous tensors to update, by name.
        undecayed: Names of the tensors to which weight decay is not applied.

    Attributes:
        state: State of each tensor between steps, such as momentum, by the tensor's name.
    """

    def __init__(
        self,
        optimizer: Mapping[str, Mapping[str, object]],
        tensors: Mapping[str, Tensor],
        undecayed: Collection[str] = (),
    ) -> None:
        ((self.name, arguments),) = optimizer.items()
        # Missing arguments get the defaults of torch.
        self.arguments = OPTIMIZERS[self.name].model_validate(arguments).model_dump()
        self.tensors = tensors
        self.decays = {name: 0.0 if name in undecayed else self.arguments["weight_decay"] for name in tensors}
        self.state: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], factor: float) -> None:
        """Update the tensors that have a gradient.

        Args:
            gradients: Gradients by the name of the tensor.
            factor: Factor that multiplies the learning rate in this step.
        """
        change = self._sgd if self.name == "sgd" else self._adam
        groups: dict[tuple[float, bool], list[str]] = {}  # the first step with momentum differs from later steps
        for name in gradients:
            groups.setdefault((self.decays[name], name in self.state), []).append(name)
        for (decay, _), names in groups.items():
            change(names, [gradients[name].contiguous() for name in names], factor * self.arguments["lr"], decay)

    def remembered(self) -> dict[str, Tensor]:
        """Return the state as a flat dictionary, with keys of the form `tensor name/momentum`."""
        return {f"{name}/{key}": value for name, kept in self.state.items() for key, value in kept.items()}

    def restore(self, remembered: Mapping[str, Tensor]) -> None:
        """Restore a state returned by the method `remembered`, on the device of the optimised tensors."""
        for flat, value in remembered.items():
            name, _, key = flat.rpartition("/")
            place = self.tensors[name].new_empty(()) if key == "step" else torch.empty_like(self.tensors[name])
            self.state.setdefault(name, {})[key] = place.copy_(value)

    def _adam(self, names: Sequence[str], gradients: list[Tensor], rate: float, decay: float) -> None:
        arguments = self.arguments
        keys = ("mean", "square", "largest") if arguments["amsgrad"] else ("mean", "square")
        state = [self._remembered(name, keys) for name in names]
        adam(
            [self.tensors[name] for name in names],
            gradients,
            [kept["mean"] for kept in state],
            [kept["square"] for kept in state],
            [kept["largest"] for kept in state] if arguments["amsgrad"] else [],
            [kept["step"] for kept in state],
            fused=True,
            decoupled_weight_decay=self.name == "adamw",
            amsgrad=arguments["amsgrad"],
            beta1=arguments["betas"][0],
            beta2=arguments["betas"][1],
            lr=rate,
            weight_decay=decay,
            eps=arguments["eps"],
            maximize=False,
        )

    def _sgd(self, names: Sequence[str], gradients: list[Tensor], rate: float, decay: float) -> None:
        arguments = self.arguments
        momenta: list[Tensor | None] = [self.state.get(name, {}).get("momentum") for name in names]
        sgd(
            [self.tensors[name] for name in names],
            gradients,
            momenta,
            fused=True,
            weight_decay=decay,
            momentum=arguments["momentum"],
            lr=rate,
            dampening=arguments["dampening"],
            nesterov=arguments["nesterov"],
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


class RowOptimizers:
    """Optimizers of stacked tensors, one for each row.

    Separate optimizers are needed in two cases. The rows have different learning rates, but torch's fused kernels take
    one learning rate per call. Or the optimizer is a class that the user names, which may combine the elements of its
    tensors. The update of a row is bit-identical to the update of a stack with only this row.

    Args:
        optimizer, tensors, undecayed: The arguments of `Optimizer`. The tensors are (S, ...).
        rates: Learning rate of each row, which replaces the learning rate of `optimizer`.
    """

    def __init__(
        self,
        optimizer: Mapping[str, Mapping[str, object]],
        tensors: Mapping[str, Tensor],
        undecayed: Collection[str],
        rates: Sequence[float],
    ) -> None:
        ((name, arguments),) = optimizer.items()
        self.tensors = tensors
        kind = OwnOptimizer if is_own_optimizer(name) else Optimizer
        self.rows: list[Optimizer | OwnOptimizer] = [
            kind({name: {**arguments, "lr": rate}}, _row(tensors, row), undecayed) for row, rate in enumerate(rates)
        ]

    def step(self, gradients: Mapping[str, Tensor], factor: float) -> None:
        """Update the tensors that have a gradient.

        Args:
            gradients: Gradients (S, ...) by the name of the tensor.
            factor: Factor that multiplies each learning rate in this step.
        """
        for row, optimizer in enumerate(self.rows):
            optimizer.step(_row(gradients, row), factor)

    def remembered(self) -> dict[str, Tensor]:
        """Return the state as a flat dictionary, with keys of the form `row/tensor name/momentum`."""
        return {
            f"{row}/{name}": value
            for row, optimizer in enumerate(self.rows)
            for name, value in optimizer.remembered().items()
        }

    def restore(self, remembered: Mapping[str, Tensor]) -> None:
        """Restore a state returned by the method `remembered`, on the device of the optimised tensors."""
        for row, optimizer in enumerate(self.rows):
            prefix = f"{row}/"
            state = {name.removeprefix(prefix): value for name, value in remembered.items() if name.startswith(prefix)}
            optimizer.restore(state)


def row_optimizers(
    optimizer: Mapping[str, Mapping[str, object]],
    tensors: Mapping[str, Tensor],
    undecayed: Collection[str],
    rates: Sequence[float],
) -> Optimizer | RowOptimizers:
    """Return an optimizer of stacked tensors. If necessary, each row has its own optimizer.

    See `RowOptimizers` for the arguments.
    """
    ((name, arguments),) = optimizer.items()
    if len(set(rates)) > 1 or is_own_optimizer(name):
        return RowOptimizers(optimizer, tensors, undecayed, rates)
    return Optimizer({name: {**arguments, "lr": rates[0]}}, tensors, undecayed)


def _row(tensors: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    return {name: tensor[row] for name, tensor in tensors.items()}


def norms_and_biases(module: nn.Module) -> set[str]:
    """Return the names of the biases and of the parameters of normalisation layers, which usually get no weight decay.

    A parameter belongs to this group if it has fewer than 2 dimensions or is part of a layer norm. The parameters of
    `module` must not be stacked, because stacking adds a dimension.

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
    """Scale down the gradients of a replica if their norm is above a maximum. Each replica is clipped separately.

    Args:
        gradients: Tensors (S, ...) by name, with one row per replica.
        largest: Maximum norm of a replica's gradients over all tensors.

    Returns:
        The clipped gradients, by name.
    """
    norms = torch.stack([torch.linalg.vector_norm(tensor.flatten(1), dim=1) for tensor in gradients.values()])  # (P, S)
    total = torch.linalg.vector_norm(norms, dim=0)  # (S,)
    factors = (largest / (total + 1e-6)).clamp(max=1.0)  # the formula of torch.nn.utils.clip_grad_norm_
    return {name: tensor * factors.view(-1, *[1] * (tensor.ndim - 1)) for name, tensor in gradients.items()}


def weights_of_units(module: nn.Module) -> set[str]:
    """Return the names of the weights of linear layers and convolutions. Row i holds the incoming weights of unit i.

    >>> sorted(weights_of_units(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))))
    ['0.weight', '3.weight']
    """
    return {
        f"{name}.weight".removeprefix(".")
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    }


@torch.no_grad()
def limit_norms(tensors: Mapping[str, Tensor], largest: float) -> None:
    """Limit the norm of each unit's incoming weights, by scaling down larger weights in place.

    Args:
        tensors: Contiguous weights (S, units, ...) by name, with one row per replica.
        largest: Maximum norm of a unit's incoming weights.

    References:
        Hinton et al., "Improving neural networks by preventing co-adaptation of feature detectors", 2012.
    """
    for tensor in tensors.values():
        tensor.view(-1, tensor[0, 0].numel()).renorm_(2, 0, largest)


def average(averages: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, decay: float, step: int) -> None:
    """Update exponential moving averages in place.

    The decay starts at 1 / 10 and rises as (1 + step) / (10 + step) up to `decay`, so that the random initial weights
    soon lose their influence. Integer tensors, such as batch norm's count of batches, are copied instead of averaged.
    If `averages` and `tensors` hold the same tensor under a name, this tensor does not change.

    Args:
        averages: Averages to update, by name.
        tensors: Current values of the tensors, by the same names.
        decay: Maximum decay of the averages per step.
        step: Number of the step, counted from 0.
    """
    others = {name: tensor for name, tensor in averages.items() if tensor is not tensors[name]}
    moved = [name for name, tensor in others.items() if tensor.is_floating_point()]
    for name in others.keys() - moved:
        others[name].copy_(tensors[name])
    if moved:
        update = get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))
        update([others[name] for name in moved], [tensors[name].detach() for name in moved], step)
