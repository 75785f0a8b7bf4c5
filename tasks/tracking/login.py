"""Login to an MLflow server that `kd up --login` or `kd ui --login` runs on this machine."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from kdmodels.files.atomic import write_whole
from tasks.tracking import announcements

USER = "admin"
_LOOPBACK = ("127.0.0.1", "localhost")


def announced(port: int, password: str) -> AbstractContextManager[None]:
    """Announce a server's login while the `with` block runs, so that the user's other commands can log in.

    Args:
        port: Port of the server on the loopback address of this machine.
        password: Password of the admin.
    """
    return announcements.announced(_name(port), password)


def use_announced(uri: str) -> None:
    """Set the user and password of a server on this machine for MLflow's client.

    The password comes from the announcement that `announced` writes. If there is no announcement for the address, or if
    a user is already set, change nothing. An announcement is valid only while the process that wrote the announcement
    runs. Otherwise the password could be sent to another program that uses the same port.

    Args:
        uri: Address of the server.
    """
    address = urlsplit(uri)
    if address.hostname not in _LOOPBACK or "MLFLOW_TRACKING_USERNAME" in os.environ:
        return
    if password := announcements.announcement(_name(address.port or 80)):
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = USER, password


def settings(folder: Path, password: str) -> dict[str, str]:
    """Write the configuration file of a server with a login, and return the environment variables of the server.

    Args:
        folder: Folder for the configuration file and the users' database.
        password: Password of the admin.
    """
    database = folder / "mlflow-login.db"
    if not database.exists():
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    lines = [
        "[mlflow]",
        f"database_uri = sqlite:///{str(database).replace('%', '%%')}",
        f"admin_username = {USER}",
        "default_permission = NO_PERMISSIONS",  # for users that the admin adds
        "auth_cache_ttl_seconds = 300",  # without a cache, each request takes 0.3 s longer
    ]
    config = write_whole(folder / "mlflow-login.ini", lambda partial: partial.write_text("\n".join(lines) + "\n"))
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
    }


def _name(port: int) -> str:
    return f"mlflow-{port}"
