"""The command `kd init`. It writes an experiment file that the user can edit, or the passwords of the team stack."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.experiments import write_template
from flows.experiments.starter import write_starter
from flows.services.stack_settings import write_settings
from kd.exit_codes import usage_errors
from kdmodels.errors import UsageError
from kdmodels.text import escaped


def command(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="New experiment file.")] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Write .env with random passwords for the team stack.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Write a short file for this folder, zip, file or dataset.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="FILE|NETWORK", help="Weights, e.g. resnet18.pt, or a network to train.")
    ] = None,
    student: Annotated[str | None, typer.Option(metavar="NETWORK", help="A name, or module:Class.")] = None,
) -> None:
    """Write an experiment file to edit, or passwords of a team stack.

    With --data, the file has a few lines for your data and networks. Without --data, it shows every field.
    """
    if (file is not None) == stack:
        raise UsageError("expected one of: a new experiment file, --stack")
    if data is None and (teacher or student):
        raise UsageError("--teacher, --student: expected together with --data")
    with usage_errors():
        if file is not None and data is not None:
            write_starter(file, data, teacher, student)
            print(escaped(f"wrote {file}; run it with: kd run {file}"), file=sys.stderr)
            return
        if file is None:
            written = write_settings(Path.cwd())
            print(escaped(f"wrote {written}; start the stack with: docker compose up --detach"), file=sys.stderr)
            return
        write_template(file)
    print(escaped(f"wrote {file}; run it with: kd run {file}"), file=sys.stderr)
