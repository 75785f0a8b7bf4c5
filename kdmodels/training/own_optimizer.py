"""Optimizers that an experiment names as `module:Class`: other classes of `torch.optim`, and classes of the user."""

import inspect
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from kdmodels.errors import UserError, allowed
from kdmodels.experiment.recipe import is_own_optimizer
from kdmodels.networks.user_module import import_code
from kdmodels.randomness import generator_for

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
        self, optimizer: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor], undecayed: Collection[str] = ()
    ) -> None:
        ((self.name, arguments),) = optimizer.items()
        target = import_code(FIELD, self.name, torch.optim.Optimizer)
        self.tensors, self.lr = tensors, arguments["lr"]
        groups: list[dict[str, Any]] = [
            {"params": [tensor for name, tensor in tensors.items() if name not in undecayed]}
        ]
        kept = [tensor for name, tensor in tensors.items() if name in undecayed]
        if "weight_decay" in inspect.signature(target).parameters:
            groups.append({"params": kept, "weight_decay": 0.0})
        else:
            groups[0]["params"] += kept
        parsed = _parsed(self.name, target, arguments)
        with self._errors_of_user():
            self.optimizer: torch.optim.Optimizer = target([group for group in groups if group["params"]], **parsed)

    def step(self, gradients: Mapping[str, Tensor], factor: float) -> None:
        """Update the tensors that have a gradient. For the arguments, see `Optimizer.step`."""
        for name, tensor in self.tensors.items():
            tensor.grad = gradients.get(name)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.lr
        with self._errors_of_user():
            self.optimizer.step()

    def remembered(self) -> dict[str, Tensor]:
        """Return the state of the optimizer as a flat dictionary of tensors.

        Raises:
            UserError: The state holds something else than tensors, numbers, text, and lists and mappings of these.
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

    @contextmanager
    def _errors_of_user(self) -> Iterator[None]:
        """Convert any error that the class raises to a UserError."""
        try:
            yield
        except Exception as error:  # the user's code raises errors of any kind
            line = (str(error).strip().splitlines() or [""])[0]
            raise UserError(
                f"{FIELD}: {self.name} raised {type(error).__name__}{f': {line}' if line else ''}"
            ) from error


def check(field: str, optimizer: Mapping[str, Mapping[str, Any]]) -> None:
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
    """Check the weights of two trials, without and with an interruption."""
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


def _trial(optimizer: Mapping[str, Mapping[str, Any]], *, interrupted: bool = False) -> dict[str, Tensor]:
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


def _parsed(name: str, target: Any, arguments: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of the class, after checking them against its signature. Lists become tuples if needed."""
    known = dict(list(inspect.signature(target).parameters.items())[1:])  # the first parameter takes the tensors
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in known.values())
    names = [
        key
        for key, parameter in known.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    for key in arguments:
        if key not in names and not takes_any:
            raise UserError(f"{FIELD}: {name} has no argument {key!r}. {allowed(key, names)}")
    for key in names:
        if known[key].default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f"{FIELD}: {name} needs the argument {key}, which has no default")
    hints = _hints(target)
    return {key: _checked(f"{name}: {key}", value, hints.get(key, Any)) for key, value in arguments.items()}


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__)
    except (NameError, TypeError):  # an annotation that exists only for type checkers
        return {}


def _checked(argument: str, value: object, hint: Any) -> object:
    adapter: TypeAdapter[object] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_json(json.dumps(value), strict=True)  # strict JSON: a list is a tuple, "1" is no number
    except ValidationError as error:
        kind = hint.__name__ if isinstance(hint, type) else str(hint)
        raise UserError(f"{FIELD}: {argument}: expected {kind}, got {value!r}") from error
