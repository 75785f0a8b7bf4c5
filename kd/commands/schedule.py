"""The command `kd schedule`. It creates and changes the schedules on which experiments run."""

import sys
from typing import Annotated

import typer

from flows.services.schedule_request import ScheduleRequest, carry_out
from kd import console
from kd.exit_codes import usage_errors
from kd.options import complete_experiment


def command(  # noqa: PLR0913 - one parameter per option
    file: Annotated[
        str | None,
        typer.Argument(metavar="EXPERIMENT|FILE", autocompletion=complete_experiment, help="Experiment to run."),
    ] = None,
    cron: Annotated[str | None, typer.Option(help="When to run, e.g. '0 3 * * *'.")] = None,
    every: Annotated[int | None, typer.Option(min=1, metavar="SECONDS", help="Seconds between two runs.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Time zone of --cron, e.g. Europe/Berlin. Default: UTC.")] = None,
    allow_code: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="A module, or file.py, whose code the runs may use.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the schedules.")] = False,
    pause: Annotated[str | None, typer.Option(metavar="NAME", help="Start no more runs of a schedule.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="NAME", help="Start runs of a paused schedule again.")] = None,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Delete a schedule.")] = None,
    run_now: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run a schedule once, as soon as possible.")
    ] = None,
) -> None:
    """Run an experiment on a schedule while `kd up` serves."""
    changes = {"--pause": pause, "--resume": resume, "--delete": delete, "--run-now": run_now}
    with usage_errors():
        answer = carry_out(ScheduleRequest(file, cron, every, timezone, tuple(allow_code or ()), list_, changes))
    if answer.message:
        print(answer.message, file=sys.stderr)
        return
    rows = [schedule.model_dump() | {"file": schedule.file_state} for schedule in answer.schedules]
    console.print_table(rows, {key: key for key in ("name", "cron", "timezone", "every", "active", "file")})
