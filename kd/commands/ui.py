"""The command `kd ui`. It serves the MLflow UI."""

from typing import Annotated

import typer

from flows.services.mlflow_server import ui
from kd.options import Login


def command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000,
    login: Login = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the page of the latest runs in the browser.")] = False,
) -> None:
    """Serve the MLflow UI until Ctrl-C.

    The address of the page with the latest runs is printed. MLflow's own start page does not show them.
    """
    ui(port, login=login, open_page=open_)
