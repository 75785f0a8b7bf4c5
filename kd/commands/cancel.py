"""The command `kd cancel`. It stops a comparison or the training of a generator that runs in another process."""

import sys
from typing import Annotated

import typer

from flows.services.waiting_runs import cancel_waiting
from kd.exit_codes import usage_errors
from kd.options import RUN_HELP
from kdmodels.text import escaped
from tasks import tracking
from tasks.cancellation import cancel, running_run_of


def command(run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)]) -> None:
    """Stop a running comparison or generation, wherever it runs.

    A generation is a `kd run` that trains a generator. If RUN is the run of one network, its whole comparison or
    generation stops. Training writes a checkpoint first, from which the next run of the experiment continues.

    To cancel a scheduled run that has not begun, give its name in Prefect.
    """
    tracking.configure()
    if cancel_waiting(run):
        print(f"cancelled {escaped(run)}, which had not begun", file=sys.stderr)
        return
    with usage_errors():
        whole = running_run_of(run)
    name = escaped(f"{whole.name} ({whole.run_id})")
    print(f"stopping the {whole.kind} {name}", file=sys.stderr)
    stopped = cancel(whole)
    print(f"stopped {name}" if stopped else f"ended {name}: its process no longer exists", file=sys.stderr)
