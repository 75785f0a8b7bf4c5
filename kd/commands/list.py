"""The command `kd list`. It lists runs or experiments."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from flows.experiments import shipped
from kd import console
from kd.exit_codes import usage_errors
from kd.options import AGES, Json, parse_age
from kd.run_table import print_runs
from kdmodels.errors import UsageError
from tasks import queries, tracking
from tasks.listings import ExperimentLine

KIND_HELP = "Only runs of this kind: comparison, generation, teacher, student, tuning, generator or reproduction."


def command(  # noqa: PLR0913 - one parameter per option
    experiments: Annotated[bool, typer.Option("--experiments", help="List the experiments instead.")] = False,
    experiment: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this experiment.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help=KIND_HELP)] = None,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="Only runs with this status: finished, failed, killed or running."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only runs that started since then: a date, e.g. 2026-11-30, or an age, 7d."),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="FIELD", help="Order: started, accuracy or seconds (largest first), or name.")
    ] = "started",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs.")] = 30,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    chosen = tracking.RunFilter(experiment, kind, status.upper() if status else None, parse_since(since))
    if experiments:
        if chosen != tracking.RunFilter() or sort != "started":
            raise UsageError("--experiments: expected without --experiment, --kind, --status, --since and --sort")
        _print_experiments(queries.list_experiments(shipped()), as_json=as_json)
        return
    with usage_errors():
        runs = queries.list_runs(chosen, limit, sort)
    if as_json:
        console.print_json(runs)
    elif runs:
        print_runs(runs, sort)
    elif chosen == tracking.RunFilter():
        print("no runs yet. Start with: kd run digits")
    else:
        print("no run meets these conditions")


def parse_since(since: str | None) -> int | None:
    """Convert a date, a time in ISO 8601 format, or an age such as 7d to a time in ms since 1970.

    A date or time without a time zone is in the time zone of this machine.
    """
    if since is None:
        return None
    seconds = parse_age(since)
    now = datetime.now(UTC).timestamp()
    try:
        start = datetime.fromisoformat(since).timestamp() if seconds is None else now - seconds
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--since: expected a date or an age, got {since!r}. "
            f"Allowed: a date or time, e.g. 2026-11-30 or 2026-11-30T18:00, or {AGES}, e.g. 7d"
        ) from error
    return max(0, int(1000 * start))


def _print_experiments(experiments: Sequence[ExperimentLine], *, as_json: bool) -> None:
    if as_json:
        console.print_json(experiments)
        return
    rows = [each.model_dump() | {"last_started": console.local_time(each.last_started)} for each in experiments]
    columns = {name: name for name in ExperimentLine.model_fields} | {"last_started": "last started"}
    console.print_table(rows, columns, optional=("shipped", "comparisons", "last_started"))
