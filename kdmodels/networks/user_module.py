"""Construction of the networks that the user's classes and functions build."""

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from kdmodels.errors import UserError
from kdmodels.experiment.network import Network
from kdmodels.user_imports import described, import_code

FIELD = "network.module"


def user_module(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build a network by calling the user's class or function with the arguments in the experiment file.

    Each of the arguments `classes`, `num_classes`, `in_channels` and `input_shape` (C, H, W) is added if the signature
    has this argument and the experiment file does not set it. If the signature has `**kwargs` but neither `classes` nor
    `num_classes`, `num_classes` is added too, unless `**kwargs` does not allow this argument.

    Raises:
        UsageError: The class or function can't be imported, does not exist, or is not allowed to run.
        UserError: The call raises an error, or does not return a `torch.nn.Module`.
    """
    target = import_code(FIELD, str(network.module))
    defaults = {"classes": classes, "num_classes": classes, "in_channels": input_shape[0], "input_shape": input_shape}
    parameters = _parameters(target)
    arguments = {name: value for name, value in defaults.items() if name in parameters} | network.arguments
    unnamed = not {"classes", "num_classes"} & arguments.keys() and _takes_any_keyword(parameters)
    try:
        module = _call_with_classes(target, arguments, classes) if unnamed else target(**arguments)
        if isinstance(module, nn.Module) and any(is_lazy(parameter) for parameter in module.parameters()):
            module(torch.zeros(2, *input_shape))
    except Exception as error:  # the user's code raises errors of any kind
        call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(f"network.module: {network.module}({call}) raised {described(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"network.module: {network.module}: expected a torch.nn.Module, got a {type(module).__name__}")
    return module


def _parameters(target: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError:  # the class or function is written in C
        return {}


def _takes_any_keyword(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def _call_with_classes(target: Callable[..., object], arguments: dict[str, object], classes: int) -> object:
    """Call a function that has `**kwargs` with `num_classes`. If it refuses this argument, call it without."""
    try:
        return target(num_classes=classes, **arguments)
    except TypeError as error:
        if "num_classes" not in str(error):
            raise
        return target(**arguments)
