"""Errors that a user can cause and correct. Each error is reported on one line."""

from collections.abc import Iterable
from difflib import get_close_matches

from kdmodels.redaction import redacted as redacted


class UserError(Exception):
    """An error that the user can correct. The message is one line: the field, its value and the allowed values."""


class UnavailableError(UserError):
    """An error that is raised if a store or a server can't be reached, read or written. The command itself is valid."""


class UsageError(UserError):
    """An error in a command or an experiment, for example the name of a missing file. The exit code is 2."""


class CancelledError(UserError):
    """An error that ends a command because somebody cancelled its run. The exit code is 130."""


class DivergedError(UserError):
    """An error that is raised if the training loss is no longer finite and training could not recover."""


def allowed(name: str, choices: Iterable[str]) -> str:
    """Return the nearest allowed name and a list of all allowed names, as the end of an error message.

    Args:
        name: The unknown name that the error message is about.
        choices: The allowed names.

    >>> allowed("digit", ["digits", "mnist"])
    "Did you mean 'digits'? Allowed: digits, mnist"
    >>> allowed("x", [])
    'None exist'
    """
    names = list(choices)
    if not names:
        return "None exist"
    nearest = get_close_matches(name, names, n=1)
    hint = f"Did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}Allowed: {', '.join(names)}"
