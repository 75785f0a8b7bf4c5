"""A command that serves with child processes ends with a clear error, or without an error on a signal."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from flows.services.children import until_stopped, wait_for_exit
from flows.services.processes import spawn
from kdmodels.errors import UserError


def test_a_child_that_exits_is_named_with_its_exit_code() -> None:
    with until_stopped() as children:
        children["the worker"] = spawn([sys.executable, "-c", "raise SystemExit(3)"], log=subprocess.DEVNULL)
        with pytest.raises(UserError, match=r"^the worker stopped with exit code 3\. Its log is above$"):
            wait_for_exit(children)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_children_without_an_error(number: signal.Signals) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    previous_handler = signal.getsignal(signal.SIGTERM)
    with until_stopped() as children:
        children |= {name: spawn(sleep, log=subprocess.DEVNULL) for name in ("one", "other")}
        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
        wait_for_exit(children)
    assert all(child.poll() is not None for child in children.values())
    assert signal.getsignal(signal.SIGTERM) is previous_handler
