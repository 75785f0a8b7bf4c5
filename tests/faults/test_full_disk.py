"""A full disk, of the store or of the cache, leaves nothing half-written, and work resumes when there is space."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Workspace, single_error

FULL_STORE = "head -c 1G /dev/zero > mlruns/filler; true"
FULL_CACHE = "head -c 1G /dev/zero > cache/filler; true"
MOMENTS = {
    "a student's training": ("tasks.training_runs:EpochLog.__call__", 50),
    "a student's network": ("tasks.tracking:log_folder", 4),
}


@pytest.fixture
def small_store(workspace: Workspace, mount: Callable[[Path], None], new_store: Callable[[Path], str]) -> Workspace:
    """Return a workspace whose store is on a small disk."""
    mount(workspace.folder / "mlruns")
    new_store(workspace.folder / "mlruns")
    return workspace


@pytest.mark.fault
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_ended_by_a_full_store_resumes_when_there_is_space(
    small_store: Workspace, expected: dict[str, Any], moment: str
) -> None:
    call, count = MOMENTS[moment]
    workspace, filler = small_store, small_store.folder / "mlruns" / "filler"
    failed = workspace.kd(call, str(count), FULL_STORE, "run", "small.yaml", by=AT_CALL)
    assert filler.exists()
    assert failed.returncode == 1
    error = single_error(failed.stderr)
    assert str(workspace.folder / "mlruns") in error
    assert "disk is full" in error or "No space left" in error
    filler.unlink()
    done = workspace.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_a_full_cache_prevents_only_checkpoints(
    workspace: Workspace, mount: Callable[[Path], None], expected: dict[str, Any]
) -> None:
    """Training continues without checkpoints, with a warning, because they matter only after an interruption."""
    mount(workspace.folder / "cache")
    done = workspace.kd("tasks.execution.steps:StepWork.claim", "1", FULL_CACHE, "run", "small.yaml", by=AT_CALL)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "a checkpoint can't be written" in line]
    assert list(dict.fromkeys(line.split(":")[0] for line in warnings)) == ["teacher", "hard-labels", "kd"]
    assert "No space left on device" in warnings[0]
    (workspace.folder / "cache" / "filler").unlink()
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_data_is_decoded_when_a_full_cache_has_space_again(
    workspace: Workspace, mount: Callable[[Path], None], expected: dict[str, Any]
) -> None:
    mount(workspace.folder / "cache")
    decode = ("kdmodels.data.published:write_arrays", "1")
    failed = workspace.kd(*decode, FULL_CACHE, "run", "small.yaml", by=AT_CALL)
    assert failed.returncode == 1
    assert "can't store the decoded images: No space left on device" in single_error(failed.stderr)
    (workspace.folder / "cache" / "filler").unlink()
    done = workspace.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert workspace.outcome() == expected


@pytest.mark.fault
def test_a_store_that_is_read_only_is_told_before_anything_is_trained(small_store: Workspace) -> None:
    store = small_store.folder / "mlruns"
    subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
    before = sorted(store.rglob("*"))
    failed = small_store.kd("run", "small.yaml")
    assert failed.returncode == 1
    assert str(store) in single_error(failed.stderr)
    assert "training" not in failed.stderr
    assert sorted(store.rglob("*")) == before
