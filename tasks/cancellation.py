"""Cancellation of a running comparison or generation by `kd cancel`.

`kd cancel` sets a tag of the run in MLflow. The process that records the run reads this tag every few seconds.
"""

import contextlib
import time
from collections.abc import Iterator

from kdmodels.errors import UnavailableError, UserError
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.execution import interruption
from tasks.execution.background import repeated

POLL_SECONDS = 3.0  # interval at which a process looks for a request to end its run
COMPARISON_SECONDS = 10.0  # interval at which a cluster's worker checks whether its comparison still runs
STOP_SECONDS = 60.0  # time that a process has to end a cancelled run


class RunCancelledError(Exception):
    """The error that ends a flow after somebody cancelled its run. The message says who cancelled it, and when."""


@contextlib.contextmanager
def cancellable(run_id: str) -> Iterator[None]:
    """Interrupt the `with` block if somebody cancels the run. The block must run in the main thread.

    As after Ctrl-C, the block is interrupted by a KeyboardInterrupt. `interruption.reason` says who cancelled the run.
    """

    def is_interrupted() -> bool:
        with contextlib.suppress(Exception):  # if the store fails, the main thread reports the outage
            if request := tracking.requested_end(run_id):
                interruption.interrupt_main(f"cancelled by {request}")
                return True
        return False

    with interruption.interruptible(), repeated(is_interrupted, POLL_SECONDS, "cancellation"):
        yield


@contextlib.contextmanager
def ended_with(run_id: str) -> Iterator[None]:
    """Stop the training in the `with` block when a comparison's run ends. The block runs in a worker of a cluster.

    If the process that runs the flow ends, some clusters let the running tasks continue.
    """

    def is_stopped() -> bool:
        with contextlib.suppress(Exception):  # if the store fails, the block reports the outage
            if tracking.get(run_id).status != RunStatus.RUNNING:
                interruption.stop()
                return True
        return False

    try:
        with repeated(is_stopped, COMPARISON_SECONDS, "comparison"):
            yield
    finally:
        interruption.reset()


def whole_run_of(word: str) -> tracking.Run:
    """Return the run of the comparison or generation that a user named.

    Args:
        word: The id or name of the comparison's or generation's run, or of the run of one of its networks.

    Raises:
        UserError: No run matches the word, or the run belongs to no comparison and no generation.
    """
    run = tracking.find(word)
    whole = tracking.get(run.parent) if run.parent else run
    if whole.kind not in tracking.PARENTS:
        raise UserError(
            f"run {run.name} ({run.run_id}) belongs to no comparison and no generation. Allowed: one of them"
        )
    return whole


def running_run_of(word: str) -> tracking.Run:
    """Return the running comparison or generation that a user specified, see `whole_run_of`.

    Raises:
        UserError: No run matches the word, the run belongs to no comparison and no generation, or it is not running.
    """
    whole = whole_run_of(word)
    if whole.status != RunStatus.RUNNING:
        raise UserError(f"run {whole.name} ({whole.run_id}) is not running: its status is {whole.status}")
    return whole


def cancel(whole: tracking.Run) -> bool:
    """Cancel a running comparison or generation, and wait until its run has ended.

    If the process of the run no longer exists, only set the status of the run and of its child runs.

    Returns:
        Whether the process still existed and ended the run itself.

    Raises:
        UnavailableError: The process did not end the run within `STOP_SECONDS`.
    """
    tracking.request_end(whole.run_id)
    deadline = time.monotonic() + STOP_SECONDS
    while tracking.get(whole.run_id).status == RunStatus.RUNNING:
        if tracking.is_dead(whole.tags):
            tracking.end_abandoned(whole.experiment)
            tracking.kill_running(whole.run_id)
            return False
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"run {whole.name} ({whole.run_id}) has not ended within {STOP_SECONDS:.0f} s. Its process "
                "may be busy, or may have been killed: run kd doctor --fix on its machine"
            )
        time.sleep(0.2)
    return True
