"""The command `kd init`. It writes an experiment file that the user can edit, or the passwords of the team stack."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.experiments import write_template
from flows.services.stack_settings import write_settings
from kd.exit_codes import usage_errors
from kdmodels.errors import UsageError
from kdmodels.text import escaped


def command(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="New experiment file.")] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Write .env with random passwords for the team stack.")
    ] = False,
) -> None:
    """Write an experiment file to edit, or passwords of a team stack."""
    if (file is not None) == stack:
        raise UsageError("expected one of: a new experiment file, --stack")
    with usage_errors():
        if file is None:
            written = write_settings(Path.cwd())
            print(escaped(f"wrote {written}; start the stack with: docker compose up --detach"), file=sys.stderr)
            return
        write_template(file)
    print(escaped(f"wrote {file}; run it with: kd run {file}"), file=sys.stderr)
