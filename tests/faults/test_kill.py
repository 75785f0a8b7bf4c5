"""kill -9 at any moment of `kd run`: the next run resumes, and its outcome is that of an uninterrupted run."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, KILL, Workspace, used

KILLED = -signal.SIGKILL
# One run is killed at all these moments, one after the other. A count starts anew in the run that resumes.
MOMENTS = {
    "half-decoded data": ("kdmodels.data.published:write_arrays", 1),
    "start of the comparison": ("tasks.tracking:log_json", 1),
    "start of the teacher's run": ("tasks.tracking:log_dataset", 1),
    "the teacher's training": ("tasks.training_runs:EpochLog.__call__", 11),
    "the teacher's export": ("mlflow.onnx:save_model", 1),
    "knowledge stored, but not marked complete": ("tasks.distil_knowledge:_stored", 2),
    "start of a student's run": ("tasks.tracking:log_dataset", 1),
    "a student's training": ("tasks.training_runs:EpochLog.__call__", 30),
    "a student's replicas": ("tasks.train_student:_record_replicas", 1),
    "a student's export": ("mlflow.onnx:save_model", 1),
    "a student's model stored, but not finalized": ("mlflow:MlflowClient.finalize_logged_model", 1),
    "end of a student's run": ("tasks.tracking.lifecycle:_end_if_running", 1),
    "the comparison": ("flows.distill:compare_students", 1),
    "between registering a version and setting its alias": ("tasks.tracking.registry:_set_champion", 1),
}
IN_TRAINING = "tasks.training_runs:EpochLog.__call__", "50"  # of a student


def resumed_outcome(workspace: Workspace) -> dict[str, Any]:
    done = workspace.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    return workspace.outcome()


@pytest.mark.fault
def test_a_run_killed_at_each_moment_resumes(workspace: Workspace, expected: dict[str, Any]) -> None:
    for moment, (call, count) in MOMENTS.items():
        killed = workspace.kd(call, str(count), KILL, "run", "small.yaml", by=AT_CALL)
        assert killed.returncode == KILLED, f"{moment}: {killed.stderr}"
    assert resumed_outcome(workspace) == expected


@pytest.mark.fault
def test_a_killed_run_resumes_its_runs(workspace: Workspace) -> None:
    assert workspace.kd(*IN_TRAINING, KILL, "run", "small.yaml", by=AT_CALL).returncode == KILLED
    assert resumed_outcome(workspace)["winner"] in ("hard-labels", "kd")


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_run_killed_repeatedly_at_random_moments_resumes(
    new_workspace: Callable[[], Workspace], uninterrupted: tuple[dict[str, Any], float], kind: str
) -> None:
    """Kill 5 times in total. If a run finishes before it is killed, continue with an empty store."""
    (expected, seconds), moments, kills, workspaces = uninterrupted, random.Random(kind), 0, 0
    while kills < 5:
        workspaces += 1
        assert workspaces <= 20, "most runs finished before they were killed"
        with used(new_workspace()) as workspace:
            before = kills
            while kills < 5:
                process = workspace.start("run", "small.yaml", "--quiet", "--set", f"runner.kind={kind}")
                began = time.monotonic()
                try:
                    _, stderr = process.communicate(timeout=seconds * moments.uniform(0.3, 1))
                except subprocess.TimeoutExpired:
                    process.kill()
                    _, stderr = process.communicate()
                if process.returncode != KILLED:
                    assert process.returncode == 0, stderr
                    if kills == before:  # an uninterrupted run: the machine has become faster
                        seconds = time.monotonic() - began
                    break
                kills += 1
            assert resumed_outcome(workspace) == expected


@pytest.mark.fault
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    workspace: Workspace, expected: dict[str, Any]
) -> None:
    assert workspace.kd(*IN_TRAINING, KILL, "run", "small.yaml", by=AT_CALL).returncode == KILLED
    *_, newest = sorted((workspace.folder / "cache").rglob("epoch-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    done = workspace.kd("run", "small.yaml")
    assert done.returncode == 0, done.stderr
    file = newest.with_suffix(".json")
    warning = f"hard-labels: warning: {file}: set aside, because it can't be read: its checksum is wrong"
    assert warning in done.stderr.splitlines()
    assert workspace.outcome() == expected
