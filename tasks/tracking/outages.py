"""Functions that detect outages. An outage is a failure of the store, its server or a disk while a command runs."""

import errno
import logging
import os
import re

from mlflow.exceptions import MlflowException

from kdmodels.errors import UnavailableError
from kdmodels.redaction import shown_address

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}

# If the database fails, MLflow raises an error and also logs the traceback. Hide the log entry.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def outage(error: object) -> UnavailableError | None:
    """Return a one-line error if the store, its server or a disk failed. For any other error, return None.

    MLflow's errors are recognised by their text, because a worker process returns only the text of an error.
    """
    if isinstance(error, UnavailableError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK:
        place = error.filename2 or error.filename
        return UnavailableError(f"{f'{place}: ' if place else ''}{os.strerror(error.errno)}")
    store, text = shown_address(os.environ.get("MLFLOW_TRACKING_URI", "")), str(error)
    failed = re.search(r"5\d\d Server Error|too many 5\d\d error responses", text)
    if failed and "/mlflow-artifacts/" in text:  # the server runs, but its artifact store does not
        return UnavailableError(
            f"the MLflow server at {store!r} can't read or write files ({failed[0]}); its log says why"
        )
    if not isinstance(error, MlflowException):
        return None
    if text.startswith("API request to http"):  # if the server answered: "API request to endpoint"
        status = re.search(r"too many \d+ error responses", text)
        message = f"no answer from the MLflow server at {store!r}{f': {status[0]}' if status else ''}"
        if "/mlflow-artifacts/" in text:  # a server that cannot use its artifact store may close the connection
            message += ", to a request for a file; if the server runs, its log says why"
        return UnavailableError(message)
    if "failed with error code 401" in text:
        return UnavailableError(refusal(store, 401))
    if reason := re.search(r"\(\w[\w.]*\.OperationalError\) ([^\n]+)", text):
        return UnavailableError(f"tracking store {store!r} can't be used: {reason[1]}")
    return None


def refusal(store: str, status: int) -> str:
    """Return the message about a server that refuses the user's login, or that no longer accepts the login.

    Args:
        store: Address of the server, without secrets.
        status: HTTP status of the answer.
    """
    return (
        f"the MLflow server at {store!r} refused us (HTTP {status}); "
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


def is_mute(error: BaseException) -> bool:
    """Return whether an error means that the tracking store does not answer. The store then can't record the error."""
    return isinstance(error, MlflowException) and outage(error) is not None
