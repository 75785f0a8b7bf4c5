"""Handling of Ctrl-C and SIGTERM. The first signal interrupts the command, and the second signal ends the process."""

import contextlib
import os
import signal
import sys
from typing import NoReturn

from kd.exit_codes import INTERRUPTED
from tasks.execution import interruption


class Interrupts:
    """A handler of SIGINT and SIGTERM that counts the signals received during a command."""

    def __init__(self) -> None:
        self.received = 0

    def install(self) -> None:
        """Install the handler for SIGINT and SIGTERM. If the parent process ignores SIGINT, keep ignoring SIGINT.

        While a flow runs, Prefect's own SIGTERM handler is called first. Prefect's handler then calls this handler.
        """
        signal.signal(signal.SIGTERM, self.handle)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.handle)

    def handle(self, *_: object) -> None:
        """At the first signal, interrupt training and raise KeyboardInterrupt. At the second, exit without clean-up.

        An exit without clean-up is safe, because child processes end when they notice that this process has ended.
        """
        self.received += 1
        if self.received > 1:
            print("kd: stopped at once", file=sys.stderr)
            exit_now(INTERRUPTED)
        sys.unraisablehook = ignore_interrupts
        interruption.interrupt()


def ignore_interrupts(unraisable: "sys.UnraisableHookArgs") -> None:
    """Suppress Python's report of a KeyboardInterrupt that was raised in a destructor. Training stops anyway."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def exit_now(code: int) -> NoReturn:
    """End the process at once. Python does not unload modules, run `atexit` functions or wait for threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reading process has ended, or the caller closed the stream
            stream.flush()
    os._exit(code)
