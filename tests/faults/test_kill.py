"""kill -9 at any moment of `kd run`: the next one goes on, and ends as if nothing had happened."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, KILL, Place, used

KILLED = -signal.SIGKILL
MOMENTS = {
    "the data, half decoded": ("kdmodels.data.published:write_arrays", 1),
    "the comparison, just begun": ("tasks.tracking:log_json", 1),
    "the teacher's run, just begun": ("tasks.tracking:log_dataset", 1),
    "the teacher's training": ("tasks.runs:EpochLog.__call__", 11),
    "the teacher's export": ("mlflow.onnx:save_model", 1),
    "knowledge stored and not yet said to be whole": ("tasks.knowledge:_stored", 2),
    "a student's run, just begun": ("tasks.tracking:log_dataset", 2),
    "a student's training": ("tasks.runs:EpochLog.__call__", 50),
    "a student's replicas": ("tasks.student:_record_replicas", 2),
    "a student's export": ("mlflow.onnx:save_model", 2),
    "a student's model, stored and not yet said to be whole": ("mlflow:MlflowClient.finalize_logged_model", 2),
    "a student's end": ("tasks.tracking.lifecycle:_end_if_running", 2),
    "the comparison": ("flows.distill:compare_students", 1),
    "between a version and its alias": ("tasks.tracking.registry:_enthrone", 1),
}


def ended(place: Place) -> dict[str, Any]:
    done = place.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    return place.outcome()


@pytest.mark.fault
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_this_moment_goes_on(place: Place, whole: dict[str, Any], moment: str) -> None:
    call, count = MOMENTS[moment]
    assert place.kd(call, str(count), KILL, "run", "small.yaml", by=AT_CALL).returncode == KILLED
    assert ended(place) == whole


def test_a_killed_run_goes_on_in_the_runs_that_it_began(place: Place) -> None:
    call, count = MOMENTS["a student's training"]
    assert place.kd(call, str(count), KILL, "run", "small.yaml", by=AT_CALL).returncode == KILLED
    assert ended(place)["winner"] in ("hard-labels", "kd")


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_run_killed_again_and_again_at_random_moments_goes_on(
    new_place: Callable[[], Place], uninterrupted: tuple[dict[str, Any], float], kind: str
) -> None:
    """Ten times in all; where it comes to its end between two of them, the next one begins with an empty store."""
    (whole, seconds), moments, kills, places = uninterrupted, random.Random(kind), 0, 0
    while kills < 10:
        places += 1
        assert places <= 20, "most moments came after the end"
        with used(new_place()) as place:
            before = kills
            while kills < 10:
                process = place.start("run", "small.yaml", "--quiet", "--set", f"runner.kind={kind}")
                began = time.monotonic()
                try:
                    _, told = process.communicate(timeout=seconds * moments.uniform(0.3, 1))
                except subprocess.TimeoutExpired:
                    process.kill()
                    _, told = process.communicate()
                if process.returncode != KILLED:
                    assert process.returncode == 0, told
                    if kills == before:  # a whole run: the machine is quicker than it was
                        seconds = time.monotonic() - began
                    break
                kills += 1
            assert ended(place) == whole


@pytest.mark.fault
def test_a_checkpoint_that_is_damaged_is_told_and_the_one_before_it_taken(place: Place, whole: dict[str, Any]) -> None:
    call, count = MOMENTS["a student's training"]
    assert place.kd(call, str(count), KILL, "run", "small.yaml", by=AT_CALL).returncode == KILLED
    *_, newest = sorted((place.folder / "cache").rglob("epoch-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    done = place.kd("run", "small.yaml")
    assert done.returncode == 0, done.stderr
    file = newest.with_suffix(".json")
    told = f"hard-labels: warning: {file}: is set aside, it can't be read: its checksum is wrong"
    assert told in done.stderr.splitlines()
    assert place.outcome() == whole
