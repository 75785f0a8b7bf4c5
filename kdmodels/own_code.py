"""The user's own Python code that an experiment names, as `module:Class` or `file.py:function`: whether it may run."""

import importlib.util
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from kdmodels.errors import UsageError
from kdmodels.experiment import Experiment

ALLOWED = "KD_ALLOW_CODE"
"""The environment variable that names the modules and files of code that may run, with commas; unset: all."""


def named(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Each module, or file, of code that an experiment names, after the field that does."""
    if ":" in experiment.data.source:
        yield "data.source", experiment.data.source.rpartition(":")[0]
    networks = [member.network for member in experiment.teacher.members]
    networks += [experiment.student.network]
    networks += [variant.student.network for variant in experiment.variants if variant.student]
    for network in networks:
        if network is not None and network.module:
            yield "network.module", network.module.partition(":")[0]
    for module in experiment.allow_code:
        yield "allow_code", module


def named_modules(experiment: Experiment) -> frozenset[str]:
    """Return the modules and files of code that the user's own experiment file names.

    Never call it for an experiment that was read from the store: whoever writes the store would name the code.
    """
    return frozenset(module for _, module in named(experiment))


def require_named(field: str, module: str, code: Collection[str]) -> None:
    """Require that the user named a module, before the store is believed that it is to be run.

    Args:
        code: the modules and files that the user named in this command.

    Raises:
        UsageError: the module is not among them.
    """
    if not any(_is_same(module, name) for name in code):
        raise UsageError(
            f"{field}: the store names the code of {module}, which this command does not; to run that code, add "
            f"--allow-code {module}, or to an experiment file: allow_code: [{module}]"
        )


def require_all_allowed(experiment: Experiment, words: str | None = None) -> None:
    """Ask of all the code that an experiment names, before any of it is imported.

    Args:
        words: what is allowed; None: `ALLOWED`.

    Raises:
        UsageError: as `require_allowed`.
    """
    for field, module in named(experiment):
        require_allowed(field, module, words)


def require_found(field: str, module: str) -> None:
    """Look for a module or file of code from the current folder on, without running any of it.

    Raises:
        UsageError: there is none.
    """
    root = module.partition(".")[0]
    file = Path(module).expanduser()
    if module.endswith(".py"):
        found = file.is_file()
    else:
        found = Path(root).is_dir() or Path(f"{root}.py").is_file() or _is_installed(root)
    if not found:
        raise UsageError(f"{field}: {module}: there is no such {'file' if module.endswith('.py') else 'module'}")


def _is_installed(root: str) -> bool:
    try:
        return importlib.util.find_spec(root) is not None
    except ValueError:  # __main__, which is no file's
        return False


def require_allowed(field: str, module: str, words: str | None = None) -> None:
    """Ask before a module or file of code is run, whoever has named it: an experiment, or a stored network.

    Args:
        words: what is allowed; None: `ALLOWED`.

    Raises:
        UsageError: it is of Python itself, which has no network and no data, or it is not allowed.
    """
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise UsageError(
            f"{field}: {module} is a module of Python itself; allowed: your own, or an installed library's"
        )
    words = os.environ.get(ALLOWED) if words is None else words
    if words is None:
        return
    told = [word for word in words.split(",") if word]
    if not any(_is_within(module, word) for word in told):
        raise UsageError(
            f"{field}: the code of {module} is not allowed in this schedule; allowed: {', '.join(told) or 'none'}; "
            f"more by: kd schedule FILE --allow-code {module}"
        )


def require_own(field: str, found: Any, module: ModuleType) -> None:
    """In a schedule, ask the same of the module in which what was found is written: one shows what it imports, too.

    Raises:
        UsageError: as `require_allowed`; or it is a module itself.
    """
    if isinstance(found, ModuleType):
        raise UsageError(
            f"{field}: {found.__name__} is a module; allowed: a class or function that {module.__name__} has"
        )
    written = getattr(found, "__module__", None) or module.__name__
    if ALLOWED in os.environ and written != module.__name__:
        require_allowed(field, written)


def _is_within(module: str, word: str) -> bool:
    """Whether an allowed word stands for a module: its name, or that of a package above it, or its file.

    >>> _is_within("nets.small", "nets"), _is_within("netsmall", "nets"), _is_within("./a.py", "a.py")
    (True, False, True)
    """
    if module.endswith(".py") or word.endswith(".py"):
        return _is_same(module, word)
    return f"{module}.".startswith(f"{word}.")


def _is_same(module: str, word: str) -> bool:
    """Return whether two words name the same module or the same file.

    >>> _is_same("nets.small", "nets"), _is_same("./a.py", "a.py")
    (False, True)
    """
    if module.endswith(".py") and word.endswith(".py"):
        one, other = (os.path.realpath(os.path.expanduser(name)) for name in (module, word))
        return one == other
    return module == word
