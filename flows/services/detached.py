"""Functions that start `kd up` in the background, and stop it.

The background process runs this module, as `python -m flows.services.detached OPTIONS`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

from flows.services.children import ServiceStoppedError
from flows.services.logs import last_lines, log_file
from flows.services.processes import STOP_SECONDS
from flows.services.up import UpOptions, require_startable, up
from flows.services.up_state import UpState, other_up, running_up, up_is_locked
from kdmodels.errors import UnavailableError, UserError, redacted

UP = "up"  # name of the log file of the `kd up` process itself
POLL_SECONDS = 0.1


def up_detached(options: UpOptions) -> str:
    """Start `kd up` in the background, wait until the servers answer, and return the addresses that `kd up` prints.

    If `kd up` cannot start, print the last lines of its log on stderr.

    Raises:
        UserError: `kd up` cannot start.
    """
    require_startable(options)
    file = log_file(UP)
    if file.exists():
        file.replace(file.with_suffix(".log.1"))
    with file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.services.detached", json.dumps(asdict(options))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C and the closing of the terminal do not reach the process
        )
    try:
        while not _serves(process.pid):
            if process.poll() is not None:
                *lines, message = last_lines(file) or ["kd up stopped without a message"]
                print(*lines, sep="\n", file=sys.stderr, end="\n" if lines else "")
                raise UserError(message)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
        raise
    return file.read_text().strip()


def down() -> UpState | None:
    """Stop the `kd up` of this machine, and wait until all its processes have ended.

    Returns:
        The state of the stopped `kd up`. If no `kd up` ran, return None.

    Raises:
        UserError: `kd up` is starting or stopping, or does not end in time.
    """
    state = running_up()
    if state is None:
        if up_is_locked():
            raise other_up()
        return None
    os.kill(state.pid, signal.SIGTERM)
    seconds = 2 * len(state.services) * STOP_SECONDS
    deadline = time.monotonic() + seconds
    while up_is_locked():
        if time.monotonic() > deadline:
            raise UnavailableError(f"kd up (process {state.pid}) has not stopped after {seconds} s")
        time.sleep(POLL_SECONDS)
    return state


def _serves(pid: int) -> bool:
    state = running_up()
    return state is not None and state.pid == pid


def main(options: UpOptions) -> int:
    """Run `kd up` in this process. If it fails, print the last lines of the failed service's log, and the error."""
    try:
        up(options, echo=False)
    except UserError as error:
        log = last_lines(error.log) if isinstance(error, ServiceStoppedError) and error.log else []
        print(*log, redacted(str(error)), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(UpOptions(**json.loads(sys.argv[1]))))
