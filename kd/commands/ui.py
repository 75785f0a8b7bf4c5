"""The command `kd ui`. It serves the MLflow UI."""

from typing import Annotated

import typer

from flows.services.mlflow_server import ui
from kd.options import Login


def command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000, login: Login = False
) -> None:
    """Serve the MLflow UI until Ctrl-C."""
    ui(port, login=login)
