"""The command `kd reject`. It refuses the promotion of a version that waits for approval."""

from typing import Annotated

import typer

from flows.review import reject
from kd.exit_codes import usage_errors
from kd.prefect_flows import server_for_flows
from kdmodels.text import escaped
from tasks import tracking


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a registered model.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason. Stored with the model version.")],
) -> None:
    """Reject the waiting version of a model. The champion stays.

    The user's name, the time and the reason are stored with the version.
    """
    tracking.configure()
    with usage_errors():
        tracking.require_pending(model, "rejected")  # reports an error before a server is started
    with server_for_flows():
        version = reject(model, tracking.user(), reason)
    print(escaped(f"{version.model}: version {version.version} is rejected ({version.uri})"))
