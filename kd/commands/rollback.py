"""The command `kd rollback`. It makes an earlier champion of a model the champion again."""

from typing import Annotated

import typer

from flows.rollback import rollback
from kd.exit_codes import usage_errors
from kd.prefect_flows import server_for_flows
from kdmodels.text import escaped
from tasks import tracking


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a registered model.")],
    to: Annotated[
        int | None, typer.Option(min=1, metavar="VERSION", help="Version to restore. Default: the previous champion.")
    ] = None,
) -> None:
    """Make a model's previous champion the champion again."""
    tracking.configure()
    with usage_errors():
        tracking.rollback_versions(model, to)  # reports an unknown version before a server is started
    with server_for_flows():
        version = rollback(model, to)
    print(escaped(f"{version.model}: version {version.version} is the champion again ({version.uri})"))
