"""The address of the current flow run in Prefect's UI, and keys of artifacts."""

import re
from collections.abc import Iterable

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for

from tasks.ui.prefect_ui import has_new_ui


def flow_run_url() -> str | None:
    """Return the address of the current flow run in Prefect's UI.

    Outside of a flow run, or if the Prefect server has no UI, return None. A temporary server has no UI.

    If the server has Prefect's new UI, return the address in the new UI. The new UI asks for a password and then shows
    the flow run. The old UI shows an error instead of asking for the password.
    """
    run_id = flow_run.get_id()
    address = url_for("flow-run", obj_id=run_id) if run_id else None
    if address is None or not has_new_ui(PREFECT_API_URL.value() or ""):
        return address
    page = f"/runs/flow-run/{run_id}"
    return f"{address.removesuffix(page)}/v2{page}"


def artifact_keys(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Return a unique artifact key for each name. Prefect allows lower-case letters, digits and dashes in a key.

    >>> artifact_keys("My digits", ["kd+hint", "kd-hint", "kd-temperature=1"])
    {'kd+hint': 'my-digits-kd-hint', 'kd-hint': 'my-digits-kd-hint-2', 'kd-temperature=1': 'my-digits-kd-temperature-1'}
    """
    keys: dict[str, str] = {}
    for name in names:
        base = key = re.sub("[^a-z0-9]+", "-", f"{prefix}-{name}".lower()).strip("-")
        number = 1
        while key in keys.values():
            number += 1
            key = f"{base}-{number}"
        keys[name] = key
    return keys
