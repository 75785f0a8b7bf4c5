"""The states of a recorded run. They have the same names as in MLflow."""

from enum import StrEnum


class RunStatus(StrEnum):
    """The state of a run, as MLflow stores it."""

    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
