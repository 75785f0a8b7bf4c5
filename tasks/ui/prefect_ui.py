"""A function that asks a Prefect server which UIs it serves. Prefect's own UI uses this undocumented request."""

from functools import cache

import httpx

SECONDS = 5.0  # timeout of the request


@cache
def has_new_ui(api_url: str) -> bool:
    """Return whether a Prefect server also serves its new UI, below the path `/v2`.

    A server that does not answer, or an older server, counts as a server without the new UI.

    Args:
        api_url: The address of the server's API, e.g. http://127.0.0.1:4200/api.
    """
    try:
        settings = httpx.get(f"{api_url.removesuffix('/api')}/ui-settings", timeout=SECONDS).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
    return isinstance(settings, dict) and str(settings.get("v2_base_url") or "").endswith("/v2")
