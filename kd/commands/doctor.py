"""The command `kd doctor`. It checks this machine, and cleans up after dead processes."""

import sys
from typing import Annotated

import typer

from flows.services.dead_runs import mend_flow_runs
from flows.services.doctor import checks
from kd import console
from kd.exit_codes import DONE, ERROR
from kd.options import Json
from kdmodels.text import escaped
from tasks.cleanup.mend import mend


def command(
    fix: Annotated[
        bool, typer.Option("--fix", help="Close the runs of dead processes and delete the files that they left.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what --fix would do. Change nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Check this machine, and clean up after dead processes."""
    if fix or dry_run:
        # End the flow runs before the MLflow runs. A flow run whose MLflow run has just ended is expected to end by
        # itself within a minute, so it would not be ended here.
        lines = [*mend_flow_runs(dry_run=dry_run), *mend(dry_run=dry_run)]
        for line in lines or ["nothing to fix"]:
            print(escaped(line), file=sys.stderr)
    results = checks()
    if as_json:
        console.print_json(results)
    else:
        columns = {"name": "check", "ok": "ok", "detail": "found", "remedy": "remedy"}
        console.print_table([result.model_dump() for result in results], columns)
    return ERROR if any(result.ok is False for result in results) else DONE
