"""The login of an MLflow server that `kd up --login` or `kd ui --login` runs on this machine."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from kdmodels.durable import write_whole
from kdmodels.folders import cache_folder, private_folder

USER = "admin"
_LOOPBACK = ("127.0.0.1", "localhost")


@contextmanager
def announced(port: int, password: str) -> Iterator[None]:
    """Let this user's other commands log in to the server on a loopback port while the block runs."""
    content = json.dumps({"pid": os.getpid(), "password": password})
    private_folder(_announcement(port).parent)
    path = write_whole(_announcement(port), lambda partial: partial.write_text(content))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def use_announced(uri: str) -> None:
    """Set user and password for MLflow's client if the address is that of an announced server.

    A user and password that are set already stay. An announcement counts only while its process runs, so that no
    other program that took over the port gets the password.
    """
    address = urlsplit(uri)
    if address.hostname not in _LOOPBACK or "MLFLOW_TRACKING_USERNAME" in os.environ:
        return
    path = _announcement(address.port or 80)
    if not path.exists():
        return
    state = json.loads(path.read_text())
    try:
        os.kill(state["pid"], 0)
    except ProcessLookupError:
        return
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = USER, state["password"]


def settings(folder: Path, password: str) -> dict[str, str]:
    """Return the environment variables of a server with a login, and write the file that it reads.

    Args:
        folder: where the database of its users lies.
    """
    database = folder / "mlflow-login.db"
    if not database.exists():
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    lines = [
        "[mlflow]",
        f"database_uri = sqlite:///{str(database).replace('%', '%%')}",
        f"admin_username = {USER}",
        "default_permission = NO_PERMISSIONS",  # of the users that the admin adds
        "auth_cache_ttl_seconds = 300",  # else each request takes 0.3 s more
    ]
    config = write_whole(folder / "mlflow-login.ini", lambda partial: partial.write_text("\n".join(lines) + "\n"))
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
    }


def _announcement(port: int) -> Path:
    return cache_folder() / "servers" / f"mlflow-{port}.json"
