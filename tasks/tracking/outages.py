"""A store, its server or a disk that fails in the middle of the work: recognised, waited for, and told in one line."""

import errno
import logging
import os
import re
from typing import Any

from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, event

from kdmodels.errors import UnavailableError
from kdmodels.redaction import shown_address

LOCKED_MS = 60_000  # how long another process may hold the SQLite file; a server is waited for as long: environment.py
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}

# It logs the traceback of each failure of the database, which it then raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def _patient(_: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> tuple[str, Any]:
    """MLflow tells SQLite, before all else, to wait 20 s for a lock; there is no setting for it."""
    if statement.startswith("PRAGMA busy_timeout"):
        statement = f"PRAGMA busy_timeout = {LOCKED_MS}"
    return statement, parameters


def outage(error: object) -> UnavailableError | None:
    """What failed, in one line, where that was the store, its server or a disk, and not what was asked; else None.

    MLflow's errors are known by their text, which alone comes back from a worker process.
    """
    if isinstance(error, UnavailableError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK:
        place = error.filename2 or error.filename
        return UnavailableError(f"{f'{place}: ' if place else ''}{os.strerror(error.errno)}")
    if not isinstance(error, MlflowException):
        return None
    store, text = shown_address(os.environ.get("MLFLOW_TRACKING_URI", "")), str(error)
    if text.startswith("API request to http"):  # one that is answered is to an "endpoint"
        status = re.search(r"too many \d+ error responses", text)
        return UnavailableError(f"no answer from the MLflow server at {store!r}{f': {status[0]}' if status else ''}")
    if said := re.search(r"\(\w[\w.]*\.OperationalError\) ([^\n]+)", text):
        return UnavailableError(f"tracking store {store!r} can't be used: {said[1]}")
    return None


def is_mute(error: BaseException) -> bool:
    """Whether it is the ledger itself that does not answer, so that it can't be told of that either."""
    return isinstance(error, MlflowException) and outage(error) is not None
