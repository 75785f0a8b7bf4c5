"""Exit codes of `kd`, and a context manager that turns errors in the user's input into usage errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from kdmodels.errors import UnavailableError, UsageError, UserError

DONE, ERROR, USAGE, STUDENTS_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a `UserError` that the `with` block raises into a `UsageError`.

    An `UnavailableError` is also a `UserError`, but it is re-raised unchanged.

    Use this context manager around code that looks up names that the user typed.
    """
    try:
        yield
    except UnavailableError:
        raise
    except UserError as error:
        raise UsageError(str(error)) from error
