"""`kd cancel` stops a `kd run` in another process, also in the background, and corrects the runs of a killed one.

docs/nightly.md describes the command.
"""

import json
import re

import pytest

from tests.faults.conftest import KD, Workspace
from tests.faults.test_interrupt import LONG, wait_for

CANCELLED = r"kd: cancelled by \S+ on \S+ at 20\S+\+00:00\n"


def statuses(workspace: Workspace) -> dict[str, str]:
    return {run["name"]: run["status"] for run in json.loads(workspace.kd("list", "--json").stdout)}


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_cancelled_command_writes_checkpoints_and_exits_130(workspace: Workspace, kind: str) -> None:
    """Checkpoints are an hour apart, so the one that the run resumes from was written because of the cancellation."""
    process = workspace.start(*LONG, "--set", f"runner.kind={kind}", KD_CHECKPOINT_SECONDS="3600")
    in_training = ["hard-labels", "kd"] if kind == "process" else ["hard-labels"]
    for name in in_training:
        wait_for(workspace, 5, name)
    done = workspace.kd("cancel", "hard-labels")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"stopping the comparison small \(\w{32}\)\nstopped small \(\w{32}\)\n", done.stderr)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, bool(re.fullmatch(CANCELLED, stderr))) == (130, True), stderr
    assert {"RUNNING", "FAILED"}.isdisjoint(statuses(workspace).values())
    steps = json.loads(workspace.kd(*LONG, "--dry-run", "--json").stdout)["students"]
    assert [step["name"] for step in steps if step["action"] == "resume"] == in_training


@pytest.mark.fault
def test_a_command_that_ignores_ctrl_c_is_cancelled_too(workspace: Workspace) -> None:
    """A shell script makes its background jobs ignore SIGINT."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *KD]
    process = workspace.start(*LONG, by=ignoring)
    wait_for(workspace, 5)
    assert workspace.kd("cancel", "small").returncode == 0
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, bool(re.fullmatch(CANCELLED, stderr))) == (130, True), stderr


@pytest.mark.fault
def test_the_runs_of_a_killed_command_are_corrected(workspace: Workspace) -> None:
    process = workspace.start(*LONG)
    wait_for(workspace, 5)
    process.kill()
    process.wait()
    assert statuses(workspace)["small"] == "RUNNING"
    done = workspace.kd("cancel", "small")
    assert (done.returncode, done.stderr.splitlines()[-1].split(": ")[-1]) == (0, "its process no longer exists")
    assert statuses(workspace) == {"small": "KILLED", "teacher": "FINISHED", "hard-labels": "KILLED"}
