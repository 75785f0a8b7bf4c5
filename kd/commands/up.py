"""The command `kd up`. It serves schedules, the Prefect UI and the MLflow UI."""

import sys
from typing import Annotated

import typer

from flows.services.detached import up_detached
from flows.services.up import UpOptions, up
from kd.options import Login


def command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000,
    login: Login = False,
    detach: Annotated[bool, typer.Option("--detach", help="Serve in the background until kd down.")] = False,
) -> None:
    """Serve schedules, the Prefect UI and the MLflow UI until Ctrl-C."""
    options = UpOptions(port, mlflow_port, login)
    if detach:
        print(up_detached(options), file=sys.stderr)
        print("kd status shows the state, kd down stops both.", file=sys.stderr)
    else:
        up(options)
