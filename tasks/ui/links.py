"""The address of the current flow run in Prefect's UI, and keys of artifacts."""

import re
from collections.abc import Iterable

from prefect.runtime import flow_run
from prefect.utilities.urls import url_for


def flow_run_url() -> str | None:
    """Return the address of the current flow run in Prefect's UI.

    The result is `None` outside of a flow run, and if the Prefect server has no UI. A temporary server has no UI.
    """
    run_id = flow_run.get_id()
    return url_for("flow-run", obj_id=run_id) if run_id else None


def artifact_keys(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Return a key of an artifact for each name. Prefect allows lower-case letters, digits and dashes in a key.

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
