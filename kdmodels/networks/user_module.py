"""Construction of the networks that the user's classes and functions build."""

import inspect
from collections.abc import Callable

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
    has this argument and the experiment file does not set it.

    Raises:
        UsageError: The class or function can't be imported, does not exist, or is not allowed to run.
        UserError: The call raises an error, or does not return a `torch.nn.Module`.
    """
    target = import_code(FIELD, str(network.module))
    defaults = {"classes": classes, "num_classes": classes, "in_channels": input_shape[0], "input_shape": input_shape}
    arguments = {name: value for name, value in defaults.items() if name in _parameters(target)} | network.arguments
    try:
        module = target(**arguments)
        if isinstance(module, nn.Module) and any(is_lazy(parameter) for parameter in module.parameters()):
            module(torch.zeros(2, *input_shape))
    except Exception as error:  # the user's code raises errors of any kind
        call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(f"network.module: {network.module}({call}) raised {described(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"network.module: {network.module}: expected a torch.nn.Module, got a {type(module).__name__}")
    return module


def _parameters(target: Callable[..., object]) -> list[str]:
    try:
        return list(inspect.signature(target).parameters)
    except ValueError:  # the class or function is written in C
        return []
