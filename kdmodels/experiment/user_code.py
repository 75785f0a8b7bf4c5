"""Checks that decide whether user code is allowed to run.

User code is Python code that an experiment or a stored network names, as `module:Class` or `file.py:name`: networks,
losses, metrics, optimizers, augmentations and data.
"""

import importlib.util
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType

from kdmodels.errors import UsageError
from kdmodels.experiment import Experiment
from kdmodels.experiment.optimization import is_own_optimizer
from kdmodels.experiment.user_losses import is_users

ROOT = str(Path(__file__).parents[2])  # the folder that contains the packages kd, flows, tasks and kdmodels
ALLOWED = "KD_ALLOW_CODE"
"""The environment variable that lists the modules and files whose code is allowed to run, separated by commas.

If the variable is not set, all user code is allowed.
"""


def add_module_folder(folder: str) -> None:
    """Append the user's folder to the module search path, after the installed packages and the packages of kdflow.

    Because the user's folder comes last, none of its files can shadow a library.

    The function first appends the root folder of kdflow. If kdflow is installed in editable mode, the search path does
    not contain this folder. A spawned process would then import a folder `tasks` of the user in place of kdflow's
    package `tasks`.
    """
    sys.path += [entry for entry in (ROOT, folder) if entry not in sys.path]


def named_sources(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each field of an experiment that names a source of data."""
    yield "data.source", experiment.data.source
    for member in experiment.teacher.members:
        if member.data:
            yield "teacher.data.source", member.data.source


def named_code(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the name of each field of an experiment that names user code, and the named module or file."""
    for field, source in named_sources(experiment):
        if ":" in source:
            yield field, source.rpartition(":")[0]
    for field, code in _named_definitions(experiment):
        yield field, code.partition(":")[0]
    for module in experiment.allow_code:
        yield "allow_code", module


def _named_definitions(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the name of each field that names a class or function of the user, and its value, `module:name`."""
    for owner, recipe in experiment.recipes:
        if recipe.network is not None and recipe.network.module:
            yield f"{owner}.network.module", recipe.network.module
        yield from ((f"{owner}.optimizer", name) for name in recipe.optimizer if is_own_optimizer(name))
    for variant in experiment.variants:
        for term in variant.terms:
            if is_users(term.loss):
                yield f"variants.{variant.name}.terms", term.loss
    for field, function in experiment.own_augmentations:
        yield field, function.name
    for metric in experiment.metrics:
        if metric.is_users:
            yield "metrics", metric.name


def named_modules(experiment: Experiment) -> frozenset[str]:
    """Return the modules and files of user code that the user's own experiment file names.

    Their code is allowed to run. Never call this function for an experiment that was read from the store. Otherwise,
    anyone who can write to the store could choose the code that runs.
    """
    return frozenset(module for _, module in named_code(experiment))


def require_named(field: str, module: str, code: Collection[str]) -> None:
    """Raise an error if user code is named only by the store, and not by the user.

    The store holds networks and experiments that other people may have written.

    Args:
        field: The field that names the module or file, for the error message.
        module: The module or file that a stored network or experiment names.
        code: The modules and files that the user named in this command.

    Raises:
        UsageError: `module` is not in `code`.
    """
    if not any(_is_same(module, name) for name in code):
        raise UsageError(
            f"{field}: the store names the code of {module}, which this command does not. To run this code, add "
            f"--allow-code {module}, or to an experiment file: allow_code: [{module}]"
        )


def require_all_allowed(experiment: Experiment, words: str | None = None) -> None:
    """Raise an error if an experiment names user code that is not allowed, or a cluster that is not allowed.

    A cluster can run code in the process that connects to the cluster. Call this function before any of the code is
    imported.

    Args:
        experiment: The experiment.
        words: The allowed modules, files and addresses of clusters, separated by commas. If None, the value of the
            environment variable KD_ALLOW_CODE is used.

    Raises:
        UsageError: A module or cluster is not allowed, or a module is a module of Python itself.
    """
    for field, module in named_code(experiment):
        require_allowed(field, module, words)
    words, address = os.environ.get(ALLOWED) if words is None else words, experiment.runner.address
    if words is not None and address and address not in words.split(","):
        raise UsageError(_refusal("runner.address", f"the cluster {address}", address, words))


def require_exists(field: str, module: str) -> None:
    """Raise an error if a module or file of user code does not exist. No code is run.

    Args:
        field: The field that names the module or file, for the error message.
        module: The module or file. A relative path starts at the current folder.

    Raises:
        UsageError: The module or file does not exist.
    """
    is_file = module.endswith(".py")
    root = module.partition(".")[0]
    if is_file:
        exists = Path(module).expanduser().is_file()
    else:
        exists = Path(root).is_dir() or Path(f"{root}.py").is_file() or _is_installed(root)
    if not exists:
        raise UsageError(f"{field}: {module}: this {'file' if is_file else 'module'} does not exist")


def _is_installed(root: str) -> bool:
    try:
        return importlib.util.find_spec(root) is not None
    except ValueError:  # find_spec raises ValueError for __main__
        return False


def require_allowed(field: str, module: str, words: str | None = None) -> None:
    """Raise an error if the code of a module or file is not allowed to run.

    Modules that an experiment names and modules that a stored network names are checked in the same way. Modules of
    Python itself are never allowed, because they contain no networks, losses or data.

    Args:
        field: The field that names the module or file, for the error message.
        module: The module or file.
        words: The allowed modules and files, separated by commas. If None, the value of the environment variable
            KD_ALLOW_CODE is used.

    Raises:
        UsageError: The module is not allowed, or is a module of Python itself.
    """
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise UsageError(
            f"{field}: {module} is a module of Python itself. Allowed: your own module, or an installed library's"
        )
    words = os.environ.get(ALLOWED) if words is None else words
    if words is None:
        return
    if not any(_is_within(module, name) for name in words.split(",") if name):
        raise UsageError(_refusal(field, f"the code of {module}", module, words))


def _refusal(field: str, thing: str, name: str, words: str) -> str:
    names = ", ".join(filter(None, words.split(",")))
    return (
        f"{field}: {thing} is not allowed in this schedule. Allowed: {names or 'none'}. "
        f"To allow it: kd schedule FILE --allow-code {name}, or KD_WORKER_CODE of the worker of a team"
    )


def require_allowed_definition(field: str, definition: object, module: ModuleType) -> None:
    """Raise an error if a class or function comes from a module that is not allowed.

    For example, the experiment names `nets:small`, and the module `nets` imports `small` from the module `helpers`.
    Then `helpers` must be allowed too. If the environment variable KD_ALLOW_CODE is not set, all modules are allowed.
    Scheduled runs set this variable.

    Args:
        field: The field that names the class or function, for the error message.
        definition: The class or function.
        module: The module that the field names. It defines or imports the class or function.

    Raises:
        UsageError: The module that defines the class or function is not allowed, or `definition` is a module.
    """
    if isinstance(definition, ModuleType):
        name = definition.__name__
        raise UsageError(f"{field}: {name} is a module. Allowed: a class or function of {module.__name__}")
    origin = getattr(definition, "__module__", None) or module.__name__
    if ALLOWED in os.environ and origin != module.__name__:
        require_allowed(field, origin)


def _is_within(module: str, allowed: str) -> bool:
    """Return whether an allowed name covers a module or file.

    The allowed name can be the module, a package that contains the module, or the file.

    >>> _is_within("nets.small", "nets"), _is_within("netsmall", "nets"), _is_within("./a.py", "a.py")
    (True, False, True)
    """
    if module.endswith(".py") or allowed.endswith(".py"):
        return _is_same(module, allowed)
    return f"{module}.".startswith(f"{allowed}.")


def _is_same(module: str, name: str) -> bool:
    """Return whether two names refer to the same module or the same file.

    >>> _is_same("nets.small", "nets"), _is_same("./a.py", "a.py")
    (False, True)
    """
    if module.endswith(".py") and name.endswith(".py"):
        first, second = (os.path.realpath(os.path.expanduser(path)) for path in (module, name))
        return first == second
    return module == name
