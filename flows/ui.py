"""The MLflow UI alone: what `kd ui` serves."""

import sys

from flows.deployments import mlflow_ui
from tasks import tracking


def ui(port: int = 5000, *, login: bool = False) -> None:
    """Serve the MLflow UI of the store on loopback until Ctrl-C or SIGTERM. Of a server print the address.

    Args:
        login: whether it asks for a user and password.

    Raises:
        UserError: the port is taken, or the store can't be used.
    """
    store = tracking.configure()
    if store.startswith(("http://", "https://")):
        print(f"MLflow   {tracking.redacted(store)}", file=sys.stderr)
        return
    mlflow_ui(port=port, login=login)
