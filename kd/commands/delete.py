"""The command `kd delete`. It deletes a run or the runs of an experiment, and everything that depends on them."""

import sys
from typing import Annotated

import typer
from pydantic import ByteSize

from flows.services.prefect_client import persistent_client
from kd import console
from kd.exit_codes import usage_errors
from kd.options import Json, Run
from kdmodels.errors import UsageError
from tasks.cleanup.delete import Deletion, chosen_runs, delete, plan_deletion

SHOWN = 30  # maximum number of rows in the table of runs


def command(
    run: Run = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Delete all runs of this experiment instead of one run.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    models: Annotated[
        bool, typer.Option("--models", help="Also delete versions of registered models that need the runs.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted. Delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a run or an experiment, and what depends on it.

    The runs that depend on it are shown first. For example, a comparison depends on its students, and a student on its
    teacher.
    """
    if (run is None) == (experiment is None):
        raise UsageError("RUN, --experiment: expected one of these")
    if as_json and not (yes or dry_run):
        raise UsageError("--json: kd delete cannot ask, so add --yes or --dry-run")
    with persistent_client():  # a team's machines share locks, which are on the team's Prefect server
        with usage_errors():
            run_ids = chosen_runs(run, experiment)
            planned = plan_deletion(run_ids)
        if as_json:
            console.print_json({"dry_run": dry_run, **planned.model_dump()})
        else:
            print_plan(planned)
        if dry_run:
            return
        if planned.versions and not models:
            names = ", ".join(f"{version.model}/{version.version}" for version in planned.versions)
            raise UsageError(f"registered models need these runs: {names}. To delete these versions too, add --models")
        if not yes:
            confirm(len(planned.runs))
        delete(run_ids, planned)
    if not as_json:
        console.print_text(f"deleted {_summary(planned)}")


def print_plan(planned: Deletion) -> None:
    """Print the runs and the versions of registered models that would be deleted."""
    rows = [row.model_dump() | {"run_id": row.run_id[:8]} for row in reversed(planned.runs)]
    columns = {
        "run_id": "run_id",
        "name": "name",
        "kind": "kind",
        "experiment": "experiment",
        "needs": "depends on",
    }
    console.print_table(rows[:SHOWN], columns, optional=("experiment", "kind"))
    if len(rows) > SHOWN:
        console.print_text(f"and {len(rows) - SHOWN} more (--json shows all)")
    for version in planned.versions:
        aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
        console.print_text(f"model {version.model}/{version.version}{aliases}")
    console.print_text(f"{_summary(planned)} in all")
    if not planned.for_good:
        console.print_text("the MLflow server only marks runs as deleted and keeps their files")


def confirm(number: int) -> None:
    """Ask whether to delete this number of runs.

    Raises:
        UsageError: stdin is not a terminal, so nobody can answer.
        typer.Abort: The user did not answer yes.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            "kd delete cannot ask, because stdin is not a terminal. To delete without a question, add --yes"
        )
    typer.confirm(f"delete {number} run{'s' * (number > 1)}?", abort=True, err=True)


def _summary(planned: Deletion) -> str:
    runs, versions = len(planned.runs), len(planned.versions)
    parts = [f"{runs} run{'s' * (runs > 1)}"]
    if versions:
        parts.append(f"{versions} model version{'s' * (versions > 1)}")
    return f"{' and '.join(parts)}, {ByteSize(planned.bytes).human_readable(decimal=True, separator=' ')}"
