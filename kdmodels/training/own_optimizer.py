"""Optimizers that an experiment names as `module:Class`: other classes of `torch.optim`, and classes of the user."""

import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from kdmodels.errors import UserError
from kdmodels.experiment.optimization import is_own_optimizer
from kdmodels.randomness import generator_for
from kdmodels.user_imports import checked_arguments, errors_of_user, import_code

FIELD = "optimizer"
REST = "rest"  # key of the part of a state that is not a tensor, as JSON
STEPS = 4  # number of steps in a trial


class OwnOptimizer:
    """An object of a class that an experiment names, for the tensors of one replica.

    Each replica has its own object, because a class may combine the elements of its tensors, e.g. in a norm.

    Args:
        optimizer: Mapping with one entry. The key is `module:Class`, and the value holds the arguments of the class.
        tensors: Tensors to update in place, by name.
        undecayed: Names of the tensors to which weight decay is not applied, if the class has the argument
            `weight_decay`.

    Raises:
        UserError: The class does not accept the arguments, or raises an error.
        UsageError: The class can't be imported, does not exist, or is not allowed to run.
    """

    def __init__(
        self,
        optimizer: Mapping[str, Mapping[str, object]],
        tensors: Mapping[str, Tensor],
        undecayed: Collection[str] = (),
    ) -> None:
        ((self.name, arguments),) = optimizer.items()
        target = import_code(FIELD, self.name, torch.optim.Optimizer)
        lr = arguments["lr"]
        assert isinstance(lr, float)
        self.tensors, self.lr = tensors, lr
        groups: list[dict[str, Any]] = [
            {"params": [tensor for name, tensor in tensors.items() if name not in undecayed]}
        ]
        kept = [tensor for name, tensor in tensors.items() if name in undecayed]
        if "weight_decay" in inspect.signature(target).parameters:
            groups.append({"params": kept, "weight_decay": 0.0})
        else:
            groups[0]["params"] += kept
        parsed = checked_arguments(FIELD, self.name, target, arguments)
        with errors_of_user(FIELD, self.name):
            self.optimizer: torch.optim.Optimizer = target([group for group in groups if group["params"]], **parsed)

    def step(self, gradients: Mapping[str, Tensor], factor: float) -> None:
        """Update the tensors that have a gradient. For the arguments, see `Optimizer.step`."""
        for name, tensor in self.tensors.items():
            tensor.grad = gradients.get(name)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.lr
        with errors_of_user(FIELD, self.name):
            self.optimizer.step()

    def remembered(self) -> dict[str, Tensor]:
        """Return the state of the optimizer as a flat dictionary of tensors.

        Raises:
            UserError: The state holds anything other than tensors, numbers, text, and lists and mappings of these.
        """
        state, tensors = self.optimizer.state_dict(), {}
        rest: dict[str, Any] = {"state": {}, "param_groups": state["param_groups"]}
        for index, own in state["state"].items():
            for key, value in own.items():
                if isinstance(value, Tensor):
                    tensors[f"{index}/{key}"] = value
                else:
                    rest["state"].setdefault(str(index), {})[key] = value
        try:
            text = json.dumps(rest)
        except TypeError as error:
            raise UserError(
                f"{FIELD}: {self.name}: its state can't be stored: {error}. Allowed: tensors, numbers and text"
            ) from error
        return tensors | {REST: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

    def restore(self, remembered: Mapping[str, Tensor]) -> None:
        """Restore a state returned by the method `remembered`, on the device of the optimised tensors."""
        rest = json.loads(bytes(remembered[REST].tolist()))
        state = {int(index): own for index, own in rest["state"].items()}
        for flat, value in remembered.items():
            if flat != REST:
                index, _, key = flat.partition("/")
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": rest["param_groups"]})


def check(field: str, optimizer: Mapping[str, Mapping[str, object]]) -> None:
    """Try an optimizer on small tensors, if it is not one of the catalogue.

    Args:
        field: The field that names the optimizer, for error messages.
        optimizer: Mapping with one entry, see `OwnOptimizer`.

    Raises:
        UserError: The class does not accept the arguments, raises an error, or changes nothing. Or, after its state was
            stored and restored, a step has another result than without the interruption.
        UsageError: The class can't be imported, does not exist, or is not allowed to run.
    """
    ((name, _),) = optimizer.items()
    if not is_own_optimizer(name):
        return
    try:
        _check(name, _trial(optimizer), _trial(optimizer, interrupted=True))
    except UserError as error:
        raise type(error)(f"{field}: {str(error).removeprefix(f'{FIELD}: ')}") from error


def _check(name: str, weights: Mapping[str, Tensor], resumed: Mapping[str, Tensor]) -> None:
    """Check the weights of two trials: one without an interruption, and one that was resumed."""
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise UserError(f"{name} gives infinite or NaN weights after {STEPS} steps. Allowed: finite weights")
    if all(torch.equal(tensor, _weights()[key]) for key, tensor in weights.items()):
        raise UserError(f"{name} does not change the weights in place. Allowed: a class that does")
    if not all(torch.equal(tensor, resumed[key]) for key, tensor in weights.items()):
        raise UserError(
            f"{name} gives other weights after its state was restored. Allowed: a class whose state_dict holds "
            "everything that a step depends on"
        )


def _weights() -> dict[str, Tensor]:
    generator = generator_for(0, "own optimizer")
    return {"weight": torch.randn(1, 3, 4, generator=generator), "bias": torch.randn(1, 3, generator=generator)}


def _trial(optimizer: Mapping[str, Mapping[str, object]], *, interrupted: bool = False) -> dict[str, Tensor]:
    """Return the weights after `STEPS` steps with random gradients.

    Args:
        interrupted: Whether a new object takes over the state before the last step.
    """
    weights, generator = _weights(), generator_for(0, "own optimizer's gradients")
    rows = {name: tensor[0] for name, tensor in weights.items()}
    own = OwnOptimizer(optimizer, rows, ["bias"])
    for step in range(STEPS):
        if interrupted and step == STEPS - 1:
            state = {name: tensor.clone() for name, tensor in own.remembered().items()}
            own = OwnOptimizer(optimizer, rows, ["bias"])
            own.restore(state)
        gradients = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in rows.items()}
        own.step(gradients, (step + 1) / STEPS)
    return weights
