"""Import of the user's classes and functions, and construction of the networks that they build."""

import importlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.experiment.network import Network
from kdmodels.experiment.user_code import add_module_folder, require_allowed, require_allowed_definition

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
        raise UserError(f"network.module: {network.module}({call}) raised {_described(error)}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"network.module: {network.module}: expected a torch.nn.Module, got a {type(module).__name__}")
    return module


def source_file(field: str, code: str, base: type = nn.Module) -> Path:
    """Return the path of the file that defines the user's class or function. For the arguments, see `import_code`.

    Raises:
        UsageError: The class or function can't be imported, does not exist, or is not allowed to run.
        UserError: The class or function is not defined in a file.
    """
    target = import_code(field, code, base)
    try:
        return Path(inspect.getfile(inspect.unwrap(target)))
    except TypeError as error:
        raise UserError(f"{field}: {code} is not defined in a file") from error


def defining_modules(field: str, code: str, base: type = nn.Module) -> list[str]:
    """Return two module names: the module that the user named, and the module that defines the class or function.

    The two names differ if the named module only imports the class or function. If the class or function has no
    `__module__`, the second name is empty. For the arguments and errors, see `import_code`.
    """
    target = inspect.unwrap(import_code(field, code, base))
    return [code.partition(":")[0], getattr(target, "__module__", "")]


def import_code(field: str, code: str, base: type = nn.Module) -> Callable[..., Any]:
    """Import the user's class or function.

    Args:
        field: The field that names the class or function, for error messages.
        code: The module and the class or function, as `module:name`.
        base: The class of which a class must be a subclass.

    Raises:
        UsageError: The class or function can't be imported, does not exist, or is not allowed to run.
    """
    module, _, name = code.partition(":")
    require_allowed(field, module)
    add_module_folder(os.getcwd())
    try:
        home = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's code raises errors of any kind
        raise UsageError(f"{field}: {module} can't be imported: {_described(error)}") from error
    target: object = home
    for part in name.split("."):
        if not hasattr(target, part):
            public = [known for known in vars(target) if not known.startswith("_")]
            raise UsageError(f"{field}: {module} has no {name!r}. {allowed(part, public)}")
        target = getattr(target, part)
        require_allowed_definition(field, target, home)
    if not callable(target):
        raise UsageError(f"{field}: {code}: expected a class or function, got a {type(target).__name__}")
    _require_safe(field, code, target, base)
    return target


def _require_safe(field: str, code: str, target: Callable[..., object], base: type) -> None:
    """Require that the target is a subclass of `base`, or a function that the module or its submodules define.

    A function that the module only imports may be unsafe. For example, `sympy.sympify` runs its argument as code.

    Raises:
        UsageError: The target is neither such a class nor such a function.
    """
    if inspect.isclass(target):
        if not issubclass(target, base):
            raise UsageError(f"{field}: the class {code} is not a {_name(base)}")
        return
    module = code.partition(":")[0]
    origin = getattr(target, "__module__", None) or type(target).__module__
    if not f"{origin}.".startswith(f"{module}."):
        raise UsageError(
            f"{field}: {code} is defined in {origin}. Allowed: a {_name(base)} class, or a "
            f"function that {module} itself defines"
        )


def _name(base: type) -> str:
    return "torch.nn.Module" if base is nn.Module else f"{base.__module__}.{base.__name__}".replace(".optimizer.", ".")


def _parameters(target: Callable[..., object]) -> list[str]:
    try:
        return list(inspect.signature(target).parameters)
    except ValueError:  # the class or function is written in C
        return []


def _described(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
