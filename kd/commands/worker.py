"""The command `kd worker`. It runs the schedules of a team's Prefect server on this machine."""

from typing import Annotated

import typer

from flows.services.team_worker import run_worker


def command(
    health_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, metavar="PORT", help="Answer GET /health on this port of the loopback address."),
    ] = None,
) -> None:
    """Run the schedules of a team's Prefect server until Ctrl-C.

    KD_WORKER_FOLDER names the folder of the runs. KD_WORKER_CODE lists the modules that the runs may use.
    """
    run_worker(health_port=health_port)
