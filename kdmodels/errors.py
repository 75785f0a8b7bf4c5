"""The error types for everything that a user can get wrong."""

from collections.abc import Iterable
from difflib import get_close_matches

from kdmodels.redaction import redacted as redacted


class UserError(Exception):
    """A mistake that its maker can mend: one clear line that names the thing, its value and what is allowed."""


class UnavailableError(UserError):
    """A store or a server that can't be reached, read or written: whatever was typed, it is not that."""


class UsageError(UserError):
    """What was typed, or an experiment says, is wrong or names what does not exist: exit code 2."""


class DivergedError(UserError):
    """A training whose loss is no longer finite; to go on with it would lead nowhere else."""


def allowed(name: str, choices: Iterable[str]) -> str:
    """The second half of an error line: the nearest of the choices, and all of them.

    >>> allowed("digit", ["digits", "mnist"])
    "did you mean 'digits'? allowed: digits, mnist"
    >>> allowed("x", [])
    'there is none'
    """
    names = list(choices)
    if not names:
        return "there is none"
    nearest = get_close_matches(name, names, n=1)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"{hint}allowed: {', '.join(names)}"
