"""Functions that start and stop child processes. A child process ends when this process ends or is killed.

A guard process starts and ends each child process. Guard processes run this module too, so the module imports no slow
library.
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

EXEC_SECONDS = 0.2  # a process that was just forked ignores SIGTERM until it runs its own program
STOP_SECONDS = 30  # time that a flow run has to close its MLflow runs before it is killed


def spawn(
    command: list[str], *, log: IO[bytes] | int, env: dict[str, str] | None = None, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a command. The command and its descendants end when `stop` is called or when this process ends.

    A guard process starts the command. The guard ends the command when the guard's standard input is closed, which also
    happens if this process is killed with `kill -9`. The guard has its own session, so that Ctrl-C in the terminal does
    not stop a server that a flow still needs.

    Args:
        command: The command and its arguments.
        log: File for standard output and standard error.
        env: Environment variables to add.
        fds: File descriptors that the command inherits.
    """
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.services.processes", *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, **(env or {})},
        pass_fds=fds,
        start_new_session=True,
    )
    register_after_fork(process, _close_input)
    return process


def _close_input(process: subprocess.Popen[bytes]) -> None:
    """Close a forked worker's copy of the pipe to the guard.

    While a copy is open, the guard does not notice that its parent process has ended.
    """
    assert process.stdin is not None
    process.stdin.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that `spawn` started, and wait until it and its descendants have ended."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(2 * STOP_SECONDS + 5)


def command_pid(guard: int) -> int | None:
    """Return the process id of the command that a guard process started. If the guard has ended, return None.

    On systems without /proc, return the process id of the guard.

    Args:
        guard: Process id of a process that `spawn` returned.
    """
    children = Path(f"/proc/{guard}/task/{guard}/children")
    if children.exists():
        return next(map(int, children.read_text().split()), guard)
    return None if Path("/proc/self").exists() else guard


def _guard(command: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Prefect's worker needs SIGINT, but background jobs ignore it
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False, start_new_session=True)
    try:
        while process.poll() is None and not select.select([sys.stdin], [], [], 0.1)[0]:
            pass
    finally:
        _end_group(process)
    return process.wait()


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants.

    The descendants are ended first. Otherwise, Prefect's worker would kill its flow runs without sending them SIGTERM.
    Meanwhile, the worker is suspended. Otherwise, it would start the next flow run.
    """
    with contextlib.suppress(ProcessLookupError):  # raised when the process group is empty
        if _descendants(leader.pid):
            with contextlib.suppress(ProcessLookupError):  # the process has ended
                os.kill(leader.pid, signal.SIGSTOP)
            time.sleep(EXEC_SECONDS)
            for pid in _descendants(leader.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _descendants(leader.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(leader.pid, signal.SIGTERM)
        os.killpg(leader.pid, signal.SIGCONT)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            leader.poll()  # reap the process
            os.killpg(leader.pid, 0)
            time.sleep(0.02)
        os.killpg(leader.pid, signal.SIGKILL)


def _descendants(group: int) -> list[int]:
    """Return the ids of a process group's running processes, except its leader. Without /proc, return an empty list.

    Zombies are left out. A zombie is a process that has ended while its suspended parent has not waited for it yet.
    """
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if path.name != str(group) and os.getpgid(int(path.name)) == group and state != "Z":
                pids.append(int(path.name))
    return pids


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
