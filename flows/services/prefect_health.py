"""Functions that check whether a Prefect server answers and accepts the user's password.

This module does not import Prefect.
"""

import base64
import http.client
import urllib.error
import urllib.request

from flows.services.prefect_settings import setting

BUSY_SECONDS = 10  # timeout for a server that runs but may be busy
# Errors of a request if no process listens, if the listener does not speak HTTP, or if the address is malformed.
FAILURES = (OSError, http.client.HTTPException, ValueError)


def answers(url: str, seconds: float = 2) -> bool:
    """Return whether a server answers at an API address. An HTTP error also counts as an answer."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except FAILURES:
        return False


def refusal(url: str) -> int | None:
    """Return the HTTP status 401 or 403 if the server refuses the user's password or key. Otherwise, return None."""
    headers = {}
    if auth := setting("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    elif key := setting("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/version", headers=headers), timeout=BUSY_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return error.code if error.code in (401, 403) else None
    except FAILURES:
        return None
