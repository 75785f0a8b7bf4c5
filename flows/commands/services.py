"""What runs by itself, and what is left when it has: `kd ui`, `kd up`, `kd schedule`, `kd gc`."""

import re
import sys
from typing import Annotated, Any

import typer

from flows.commands.shared import Json, UsageError, experiments, usage

Login = Annotated[
    bool, typer.Option("--login", help="MLflow asks for a password. Use it where other people have accounts.")
]


def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000, login: Login = False) -> None:
    """Serve the MLflow UI until Ctrl-C."""
    from flows.ui import ui as serve

    serve(port, login=login)


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of Prefect.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Of MLflow.")] = 5000,
    login: Login = False,
) -> None:
    """Serve schedules, Prefect's UI and the MLflow UI until Ctrl-C."""
    from flows import deployments

    deployments.up(port=port, mlflow_port=mlflow_port, login=login)


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
    from flows.run import find_experiment, with_code

    with usage():
        experiment = with_code(find_experiment(file), allow_code or ()) if file else None
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


def gc(
    older_than: Annotated[str, typer.Option(metavar="AGE", help="As 12h, 30d or 4w.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete old runs and caches for good, but for what a registered model or a newer comparison needs."""
    age = _seconds(older_than)
    from flows import console
    from flows.gc import collect

    told: list[dict[str, Any]] = []

    def tell(each: dict[str, Any]) -> None:
        told.append(each)
        if not as_json:
            console.print_garbage(each, dry_run=dry_run)

    found = collect(age, tell, dry_run=dry_run)
    if as_json:
        console.print_json({"dry_run": dry_run, **found, "deleted": told})
    else:
        console.print_collected(found, dry_run=dry_run)


def _seconds(age: str) -> int:
    """What an age is in seconds.

    >>> _seconds("30d")
    2592000
    """
    match = re.fullmatch("([0-9]{1,5})([hdw])", age)
    if match is None:
        told = "allowed: 0 to 99999 hours, days or weeks, as 12h, 30d or 4w"
        raise UsageError(f"--older-than {age!r}: is no age; {told}")
    return int(match[1]) * {"h": 3600, "d": 86_400, "w": 7 * 86_400}[match[2]]
