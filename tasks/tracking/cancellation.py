"""Functions that request the end of a run that another process records, and read the request."""

import socket
from datetime import UTC, datetime

from mlflow import MlflowClient

from tasks.tracking.lifecycle import set_tags, user
from tasks.tracking.tags import Tag


def request_end(run_id: str) -> None:
    """Tell the process that records a run to end the run. The process reads the request from a tag of the run."""
    set_tags(run_id, {Tag.CANCEL: requester()})


def requester() -> str:
    """Return the user of this process, the name of this machine and the time, for the record of a request."""
    return f"{user()} on {socket.gethostname()} at {datetime.now(UTC).isoformat(timespec='seconds')}"


def requested_end(run_id: str) -> str | None:
    """Return who requested the end of a run, where and when. If nobody has requested the end, return None."""
    request: str | None = MlflowClient().get_run(run_id).data.tags.get(Tag.CANCEL)
    return request
