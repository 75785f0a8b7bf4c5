"""The user's own network: a class or a function that is called by the name of its module."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.network import Network
from kdmodels.own_code import require_allowed, require_own


def user_module(network: Network, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """What the user's class or function gives, called with its arguments.

    Where its signature has parameters of these names, and the file gives them no value, it also gets `classes` or
    `num_classes`, `in_channels`, and `input_shape` (C, H, W).

    Raises:
        UsageError: it can't be imported, is not there, or may not run.
        UserError: it raises, or gives no `torch.nn.Module`.
    """
    target = _target(network)
    offered = {"classes": classes, "num_classes": classes, "in_channels": input_shape[0], "input_shape": input_shape}
    arguments = {name: value for name, value in offered.items() if name in _parameters(target)} | network.arguments
    try:
        module = target(**arguments)
        if isinstance(module, nn.Module) and any(is_lazy(parameter) for parameter in module.parameters()):
            module(torch.zeros(2, *input_shape))
    except Exception as error:  # whatever the user's code raises
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(f"network.module: {network.module}({given}) raised {_told(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"network.module: {network.module} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def source_file(network: Network) -> Path:
    """The file in which the user's class or function is written.

    Raises:
        UsageError: it can't be imported, is not there, or may not run.
        UserError: it has no file.
    """
    target = _target(network)
    try:
        return Path(inspect.getfile(inspect.unwrap(target)))
    except TypeError as error:
        raise UserError(f"network.module: {network.module} is not written in a file") from error


def defining_modules(network: Network) -> list[str]:
    """Return the module that the network's description names, and the one in which its class or function is written.

    Raises:
        UsageError: as `source_file`.
    """
    target = inspect.unwrap(_target(network))
    return [str(network.module).partition(":")[0], getattr(target, "__module__", "")]


def _target(network: Network) -> Callable[..., Any]:
    module, _, name = str(network.module).partition(":")
    require_allowed("network.module", module)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # at the end: a file of the user's can't take a library's place
    try:
        home = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise UsageError(f"network.module: {module} can't be imported: {_told(error)}") from error
    found: Any = home
    for part in name.split("."):
        if not hasattr(found, part):
            public = [known for known in vars(found) if not known.startswith("_")]
            raise UsageError(f"network.module: {module} has no {name!r}; {allowed(part, public)}")
        found = getattr(found, part)
        require_own("network.module", found, home)
    if not callable(found):
        raise UsageError(f"network.module: {network.module} is a {type(found).__name__}, not a class or function")
    _require_network(network, found, module)
    return found


def _require_network(network: Network, found: Callable[..., Any], module: str) -> None:
    """Refuse what a module has imported, or has for another purpose: `sympy:sympify` runs the text it is given."""
    if inspect.isclass(found):
        if not issubclass(found, nn.Module):
            raise UsageError(f"network.module: {network.module} is a class, but no torch.nn.Module")
        return
    written = getattr(found, "__module__", None) or type(found).__module__
    if not f"{written}.".startswith(f"{module}."):
        raise UsageError(
            f"network.module: {network.module} is written in {written}; allowed: a torch.nn.Module class, or a "
            f"function that {module} itself defines"
        )


def _parameters(target: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(target).parameters)
    except ValueError:  # written in C
        return []


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
