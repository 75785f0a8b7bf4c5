"""Functions for the child processes of `kd up` and `kd ui`. The child processes run until Ctrl-C or SIGTERM."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.services.processes import spawn, stop
from kdmodels.errors import UserError

Children = dict[str, subprocess.Popen[bytes]]  # name of each service -> its process


class ServiceStoppedError(UserError):
    """An error that is raised if a service ends by itself.

    Attributes:
        log: Path of the log file. If the service logs to the terminal, the value is None.
    """

    def __init__(self, name: str, code: int, log: Path | None) -> None:
        super().__init__(f"{name} stopped with exit code {code}. Its log is {log or 'above'}")
        self.log = log


def start_module(
    arguments: list[str], environment: dict[str, str] | None = None, *, log: int | None = None
) -> subprocess.Popen[bytes]:
    """Start `python -m ARGUMENTS` as a child process.

    Because of the flag -P, Python does not search the working folder for modules.

    Args:
        arguments: Name of the module, and the arguments of the module.
        environment: Environment variables to add.
        log: File descriptor for the output. Default: stderr.
    """
    descriptor = sys.stderr.fileno() if log is None else log
    return spawn([sys.executable, "-P", "-m", *arguments], log=descriptor, env=environment)


@contextlib.contextmanager
def until_stopped() -> Iterator[Children]:
    """Yield an empty dict for child processes. When the `with` block ends, stop all processes in the dict.

    Ctrl-C and SIGTERM end the `with` block without an error.
    """
    children: Children = {}
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield children
    finally:
        with contextlib.ExitStack() as stack:
            for child in children.values():
                stack.callback(stop, child)
        signal.signal(signal.SIGTERM, previous_handler)


def wait_for_exit(children: Children, log_of: Callable[[str], Path] | None = None) -> None:
    """Wait until a child process exits.

    Args:
        children: The child processes.
        log_of: Function that returns the log file of a service. Default: the services log to the terminal.

    Raises:
        ServiceStoppedError: A child process exited.
    """
    while True:
        require_running(children, log_of)
        time.sleep(0.5)


def require_running(children: Children, log_of: Callable[[str], Path] | None = None) -> None:
    """Require that all child processes run. The arguments are those of `wait_for_exit`.

    Raises:
        ServiceStoppedError: A child process exited.
    """
    for name, child in children.items():
        if child.poll() is not None:
            raise ServiceStoppedError(name, child.returncode, log_of(name) if log_of else None)
