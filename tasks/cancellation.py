"""Cancellation of a comparison by `kd cancel`, in whatever process the comparison runs.

`kd cancel` sets a tag of the comparison's run in MLflow. The process that records the comparison reads the tag every
few seconds.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

from kdmodels.errors import UnavailableError, UserError
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.execution import interruption

POLL_SECONDS = 3.0  # interval at which a process looks for a request to end its run
STOP_SECONDS = 60.0  # time that a process has to end a cancelled run


class RunCancelledError(Exception):
    """The error that ends a flow after somebody cancelled its run. The message says who and when."""


@contextlib.contextmanager
def cancellable(run_id: str) -> Iterator[None]:
    """Interrupt the `with` block if somebody cancels a run. The block is the main thread's work on the run.

    The interruption is a KeyboardInterrupt, like that of Ctrl-C, and `interruption.reason` says who cancelled the run.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            with contextlib.suppress(Exception):  # if the store fails, the main thread reports the outage
                if request := tracking.requested_end(run_id):
                    interruption.interrupt_main(f"cancelled by {request}")
                    return

    thread = threading.Thread(target=watch, name="cancellation", daemon=True)
    with interruption.interruptible():
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def comparison_of(word: str) -> tracking.Run:
    """Return the comparison that a user specified by its run, or by the run of one of its students.

    Raises:
        UserError: No run matches the word, or the run belongs to no comparison.
    """
    run = tracking.find(word)
    comparison = tracking.get(run.parent) if run.parent else run
    if comparison.kind != "comparison":
        raise UserError(f"run {run.name} ({run.run_id}) belongs to no comparison. Allowed: a comparison or its runs")
    return comparison


def find_comparison(word: str) -> tracking.Run:
    """Return the running comparison that a user specified, see `comparison_of`.

    Raises:
        UserError: No run matches the word, the run belongs to no comparison, or the comparison is not running.
    """
    comparison = comparison_of(word)
    if comparison.status != RunStatus.RUNNING:
        raise UserError(
            f"run {comparison.name} ({comparison.run_id}) is not running: its status is {comparison.status}"
        )
    return comparison


def cancel(comparison: tracking.Run) -> bool:
    """End a running comparison, and wait for its end.

    If the process of the comparison no longer exists, only correct the status of its runs.

    Returns:
        Whether a process had to be stopped.

    Raises:
        UnavailableError: The process did not end the run in time.
    """
    tracking.request_end(comparison.run_id)
    deadline = time.monotonic() + STOP_SECONDS
    while tracking.get(comparison.run_id).status == RunStatus.RUNNING:
        if tracking.is_gone(comparison.tags):
            tracking.end_abandoned(comparison.experiment)
            tracking.kill_running(comparison.run_id)
            return False
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"run {comparison.name} ({comparison.run_id}) has not ended within {STOP_SECONDS:.0f} s. Its process "
                "may be busy, or may have been killed: run kd doctor --fix on its machine"
            )
        time.sleep(0.2)
    return True
