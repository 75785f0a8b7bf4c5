"""Which state files count as a running `kd up`."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.services.prefect_server import bind
from flows.services.up_state import UpState, announced, only_up, running_up, state_file, up_is_locked, up_state
from kdmodels.errors import UserError

HOLD = """
import sys
from flows.services.up_state import only_up
with only_up():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_state_file_exists_while_kd_up_runs(no_server: Path, answering: str) -> None:
    state = UpState(url=answering, pid=os.getpid(), auth="kdflow:secret")
    with only_up(), announced(state):
        assert up_state() == running_up() == state
        assert json.loads(state_file().read_text())["auth"] == "kdflow:secret"
        assert stat.S_IMODE(state_file().stat().st_mode) == 0o600
    assert up_state() is None
    assert not state_file().exists()


def test_the_state_file_of_a_killed_kd_up_is_ignored(no_server: Path, answering: str) -> None:
    """After a reboot, another program may have the process id, and another program may use the port."""
    stale = UpState(url=answering, pid=os.getpid())
    state_file().write_text(json.dumps(asdict(stale)))
    assert up_state() is None
    assert running_up() is None
    with only_up():
        assert not state_file().exists()


def test_a_state_file_whose_server_does_not_answer_is_ignored(no_server: Path) -> None:
    with bind(0) as unused, only_up():
        state = UpState(url=f"http://127.0.0.1:{unused.getsockname()[1]}/api", pid=os.getpid())
        with announced(state):
            assert up_state() is None
            assert running_up() == state


def test_only_one_kd_up_runs(no_server: Path, answering: str) -> None:
    assert not up_is_locked()
    with only_up():
        assert up_is_locked()
        with pytest.raises(UserError, match=r"^another kd up is starting or stopping: "), only_up():
            pass
        with announced(UpState(url=answering, pid=7)), pytest.raises(UserError) as error, only_up():
            pass
    assert str(error.value) == f"kd up runs already (process 7, {answering}): stop it first with kd down"
    assert not up_is_locked()


def test_a_killed_kd_up_releases_the_lock(no_server: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert up_is_locked()
    holder.kill()
    holder.wait(60)
    assert not up_is_locked()
