"""Child processes that end, with all their descendants, when this process ends in any way.

Nothing here imports anything slow, for each child starts with this module.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import IO

STOP_SECONDS = 10  # what a flow run gets to close its records before it is killed


def spawn(
    command: list[str], *, log: IO[bytes] | int, env: dict[str, str] | None = None, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Run a command that ends, with all its descendants, when `stop` is called or when this process ends in any way.

    A guard process stands between: it sees the end of this one as the end of its standard input, also after kill -9.
    It has a session of its own, so that Ctrl-C in the terminal does not stop a server under a closing flow.
    """
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.processes", *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, **(env or {})},
        pass_fds=fds,
        start_new_session=True,
    )
    register_after_fork(process, _let_go)
    return process


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """In a forked worker, which would hold open what tells the guard that this process has ended."""
    assert process.stdin is not None
    process.stdin.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `spawn` has started, and wait until it and its descendants are gone."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(2 * STOP_SECONDS + 5)


def _guard(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in a shell's background job, where Prefect's worker needs it
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False, start_new_session=True)
    try:
        while process.poll() is None and not select.select([sys.stdin], [], [], 0.1)[0]:
            pass
    finally:
        _end_group(process)
    return process.wait()


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants; those first, since Prefect's worker would kill its flow runs unwarned."""
    with contextlib.suppress(ProcessLookupError):  # raised once nobody of the group is left
        for pid in _followers(leader.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _followers(leader.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(leader.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            leader.poll()  # reaps it
            os.killpg(leader.pid, 0)
            time.sleep(0.02)
        os.killpg(leader.pid, signal.SIGKILL)


def _followers(group: int) -> list[int]:
    """The processes of a group other than its leader; none is found where the system has no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if path.name != str(group) and os.getpgid(int(path.name)) == group:
                found.append(int(path.name))
    return found


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
