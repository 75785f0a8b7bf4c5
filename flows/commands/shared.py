"""Exit codes, errors of usage, and the options that several commands have."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kdmodels.errors import UnavailableError, UsageError, UserError

BEGAN = time.monotonic()
DONE, ERROR, USAGE, STUDENTS_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class ServerGoneError(UnavailableError):
    """The Prefect server has gone; to wait until all is sent that it was to be told would take minutes."""


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Within it the user's words are looked up, so that a UserError is one of usage."""
    try:
        yield
    except UnavailableError:
        raise
    except UserError as error:
        raise UsageError(str(error)) from error


def experiments(incomplete: str) -> list[str]:
    from flows.experiments import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DataDir = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, resolve_path=True, help="The data's folder; else $KD_DATA."),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="A module, or file.py, whose code stored networks and data may run."),
]
Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="An id, the beginning of one, or a run's name.")]
