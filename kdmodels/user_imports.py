"""Import of the user's classes and functions, checks of their arguments, and conversion of their errors."""

import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.experiment.user_code import add_module_folder, require_allowed, require_allowed_definition


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
        raise UsageError(f"{field}: {module} can't be imported: {described(error)}") from error
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


@contextmanager
def errors_of_user(field: str, name: str) -> Iterator[None]:
    """Convert any error that the user's code raises to a UserError.

    Args:
        field: The field that names the class or function.
        name: The class or function, as `module:name`.
    """
    try:
        yield
    except Exception as error:  # the user's code raises errors of any kind
        raise UserError(f"{field}: {name} raised {described(error)}") from error


def checked_arguments(
    field: str, name: str, target: Callable[..., Any], arguments: Mapping[str, object], given: int = 1
) -> dict[str, object]:
    """Return the arguments for the user's class or function, after checking them against its signature.

    Args:
        field: The field that names the class or function, for error messages.
        name: The class or function, as `module:name`, for error messages.
        target: The class or function.
        arguments: The arguments in the experiment file, by name. A list becomes a tuple if the annotation says so.
        given: The number of leading positional arguments that kdflow passes.

    Raises:
        UserError: An argument is unknown or missing, or has another type than its annotation.
    """
    known = dict(list(inspect.signature(target).parameters.items())[given:])
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in known.values())
    names = [
        key
        for key, parameter in known.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    for key in arguments:
        if key not in names and not takes_any:
            raise UserError(f"{field}: {name} has no argument {key!r}. {allowed(key, names)}")
    for key in names:
        if known[key].default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f"{field}: {name} needs the argument {key}, which has no default")
    hints = _hints(target)
    return {key: _checked(f"{field}: {name}: {key}", value, hints.get(key, Any)) for key, value in arguments.items()}


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # an annotation that exists only for type checkers
        return {}


def _checked(argument: str, value: object, hint: Any) -> object:
    adapter: TypeAdapter[object] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_json(json.dumps(value), strict=True)  # accepts a list as tuple, but "1" not as number
    except ValidationError as error:
        kind = hint.__name__ if isinstance(hint, type) else str(hint)
        raise UserError(f"{argument}: expected {kind}, got {value!r}") from error


def described(error: BaseException) -> str:
    """Return the type and the first line of an error that the user's code raised."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
