"""Functions that read the user's Prefect settings and set environment variables for Prefect.

This module does not import Prefect. kdflow sets these environment variables for its own process and its child
processes:

- PREFECT_API_URL and PREFECT_API_AUTH_STRING: Address and password of the server in use.
- DO_NOT_TRACK, PREFECT_SERVER_ANALYTICS_ENABLED and PREFECT_LOGGING_LEVEL: See `QUIET`.
"""

import contextlib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.services.credentials import read_or_create
from flows.services.prefect_internals.client import refresh_settings
from kdmodels.errors import UserError
from kdmodels.redaction import shown_address

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def prefect_home() -> Path:
    """Return the folder with Prefect's database. PREFECT_HOME names the folder, and the default is ~/.prefect."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def setting(name: str) -> str | None:
    """Return a Prefect setting from the environment. If it is not set there, read the active Prefect profile.

    Raises:
        UserError: The file with the profiles is not valid TOML.
    """
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:  # the file is not valid TOML or not valid UTF-8
        raise UserError(f"{path}: Prefect's profiles are not valid TOML: {error}") from error
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    return os.environ.get(name) or profiles.get("profiles", {}).get(active, {}).get(name)


def configured_url() -> str | None:
    """Return the setting PREFECT_API_URL, the address of the user's Prefect server. If it is not set, return None.

    Raises:
        UserError: The setting is not an HTTP address, or the file with the profiles is not valid TOML.
    """
    url = setting("PREFECT_API_URL")
    if url and not url.startswith(("http://", "https://")):
        raise UserError(
            f"PREFECT_API_URL: {shown_address(url)!r} is not the address of a server; allowed: http://HOST:PORT/api"
        )
    return url


def auth_string() -> str:
    """Return `user:password` for a Prefect server that this process starts.

    If the user has set PREFECT_SERVER_API_AUTH_STRING, return this setting. Otherwise, use a password that is generated
    once and stored in a file.

    Raises:
        UserError: Another user may know the generated password, because its file is not private.
    """
    return setting("PREFECT_SERVER_API_AUTH_STRING") or f"kdflow:{read_or_create(auth_file())}"


def auth_file() -> Path:
    """Return the path of the file that contains the generated password."""
    return prefect_home() / "kdflow-password"


@contextlib.contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the `with` block runs. This process and its child processes see the variables."""
    previous_values = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    refresh_settings()
    try:
        yield
    finally:
        for name, value in previous_values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        refresh_settings()
