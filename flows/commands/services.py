"""What runs by itself: `kd ui`, `kd up`, `kd schedule`."""

import sys
from typing import Annotated

import typer

from flows.commands.shared import UsageError, experiments, usage


def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Serve the MLflow UI until Ctrl-C."""
    from flows.ui import ui as serve

    serve(port)


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of Prefect.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Of MLflow.")] = 5000,
) -> None:
    """Serve schedules, Prefect's UI and the MLflow UI until Ctrl-C."""
    from flows import deployments

    deployments.up(port=port, mlflow_port=mlflow_port)


def schedule(
    file: Annotated[
        str | None, typer.Argument(metavar="EXPERIMENT|FILE", autocompletion=experiments, help="What shall run.")
    ] = None,
    cron: Annotated[str | None, typer.Option(help="As '0 3 * * *'.")] = None,
    every: Annotated[int | None, typer.Option(min=1, metavar="SECONDS")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of --cron, as Europe/Berlin; else UTC.")] = None,
    allow_code: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="A module, or file.py, whose code its runs may use.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the schedules.")] = False,
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Delete a schedule.")] = None,
) -> None:
    """Make an experiment run by itself while `kd up` serves."""
    if (file is not None) + list_ + (delete is not None) != 1:
        raise UsageError("allowed is one of: an experiment or a file, --list, --delete NAME")
    from flows.run import find_experiment

    with usage():
        experiment = find_experiment(file) if file else None
    from flows import console, deployments

    with usage():
        if experiment:
            rows = [
                deployments.schedule(experiment, cron=cron, every=every, timezone=timezone, allow_code=allow_code or ())
            ]
        elif delete is not None:
            deployments.unschedule(delete)
            rows = []
        else:
            rows = deployments.schedules()
    if delete is not None:
        print(f"deleted the schedule of {delete}", file=sys.stderr)
        return
    console.print_table(rows, {key: key for key in ("name", "cron", "timezone", "every", "active")})
