"""The command `kd cancel`. It stops a comparison that runs in another process."""

import sys
from typing import Annotated

import typer

from flows.services.waiting_runs import cancel_waiting
from kd.exit_codes import usage_errors
from kd.options import RUN_HELP
from kdmodels.text import escaped
from tasks import tracking
from tasks.cancellation import cancel, find_comparison


def command(run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)]) -> None:
    """Stop a running comparison, in whatever process it runs.

    The run of a student or a teacher stops its whole comparison. Training writes a checkpoint first, so that the same
    experiment continues from there. A scheduled run that has not begun is given by its name in Prefect.
    """
    tracking.configure()
    if cancel_waiting(run):
        print(f"cancelled {escaped(run)}, which had not begun", file=sys.stderr)
        return
    with usage_errors():
        comparison = find_comparison(run)
    name = escaped(f"{comparison.name} ({comparison.run_id})")
    print(f"stopping the comparison {name}", file=sys.stderr)
    stopped = cancel(comparison)
    print(f"stopped {name}" if stopped else f"ended {name}: its process no longer exists", file=sys.stderr)
