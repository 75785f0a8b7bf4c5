"""`kd watch` follows a `kd run` in another process, as docs/nightly.md describes, and leaves it alone."""

import json
import re
import signal
import subprocess

import pytest

from tasks import tracking
from tests.faults.conftest import Workspace, single_error
from tests.faults.test_cancel import statuses
from tests.faults.test_interrupt import LONG
from tests.faults.test_nightly import wait_for_training, wait_until


def watch_training(workspace: Workspace) -> "subprocess.Popen[str]":
    """Start `kd watch`, and wait until it shows that the student hard-labels is trained."""
    watch = workspace.start("watch")
    assert watch.stderr
    while "hard-labels: training" not in watch.stderr.readline():
        assert watch.poll() is None
    return watch


@pytest.mark.fault
def test_a_run_is_followed_to_its_verdict(workspace: Workspace) -> None:
    """Whether the run ends before `kd watch` has started depends on the machine. The result is the same."""
    tracking.configure()
    process = workspace.start("run", "small.yaml", "--quiet", "--json")
    wait_until(lambda: bool(tracking.runs(kind="comparison")))
    watch = workspace.kd("watch", "small")
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, watch.returncode) == (0, 0), stderr + watch.stderr
    assert f"verdict   {json.loads(stdout)['verdict']['reason']}\n" in watch.stdout
    for name in ("teacher", "hard-labels", "kd"):
        assert re.search(rf"^{name}: finished in .+, validation accuracy .+ %$", watch.stderr, re.MULTILINE)
    assert re.search(r"^small: report, .+$", watch.stderr, re.MULTILINE)


@pytest.mark.fault
def test_ctrl_c_leaves_the_run_alone_and_a_cancelled_run_has_its_exit_code(workspace: Workspace) -> None:
    tracking.configure()
    process = workspace.start(*LONG)
    wait_for_training("small")
    watch = watch_training(workspace)
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=300)
    assert watch.returncode == 130
    assert statuses(workspace)["small"] == "RUNNING"
    other = workspace.start("watch", "hard-labels")
    assert workspace.kd("cancel", "small").returncode == 0
    _, stderr = other.communicate(timeout=300)
    assert other.returncode == 130
    assert re.fullmatch(r"kd: small \(\w{32}\) was cancelled by \S+ on \S+ at \S+", stderr.splitlines()[-1])
    process.communicate(timeout=300)


@pytest.mark.fault
def test_a_killed_run_is_an_error(workspace: Workspace) -> None:
    tracking.configure()
    process = workspace.start(*LONG)
    wait_for_training("small")
    watch = watch_training(workspace)
    process.kill()
    _, stderr = watch.communicate(timeout=300)
    assert watch.returncode == 1
    assert "was killed: its process no longer exists" in single_error(stderr)
    assert workspace.kd("watch").returncode == 1  # no comparison is running any more
