"""The disk is full, that of the store or that of the cache: nothing is half written, and with room again it goes on."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import AT_CALL, Place, one_error

FULL_STORE = "head -c 1G /dev/zero > mlruns/filler; true"
FULL_CACHE = "head -c 1G /dev/zero > cache/filler; true"
MOMENTS = {
    "a student's training": ("tasks.runs:EpochLog.__call__", 50),
    "a student's network": ("tasks.tracking:log_folder", 4),
}


@pytest.fixture
def small_store(place: Place, mount: Callable[[Path], None], new_store: Callable[[Path], str]) -> Place:
    """A place whose store is on a small disk."""
    mount(place.folder / "mlruns")
    new_store(place.folder / "mlruns")
    return place


@pytest.mark.fault
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_store_that_is_full_ends_the_run_which_goes_on_when_there_is_room(
    small_store: Place, whole: dict[str, Any], moment: str
) -> None:
    call, count = MOMENTS[moment]
    place, filler = small_store, small_store.folder / "mlruns" / "filler"
    failed = place.kd(call, str(count), FULL_STORE, "run", "small.yaml", by=AT_CALL)
    assert filler.exists()
    assert failed.returncode == 1
    told = one_error(failed.stderr)
    assert str(place.folder / "mlruns") in told
    assert "disk is full" in told or "No space left" in told
    filler.unlink()
    done = place.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert place.outcome() == whole


@pytest.mark.fault
def test_a_cache_that_is_full_costs_the_checkpoints_alone(
    place: Place, mount: Callable[[Path], None], whole: dict[str, Any]
) -> None:
    """What is there only in case of an interruption is not worth the training; a warning says that it is missing."""
    mount(place.folder / "cache")
    done = place.kd("tasks.steps:Begun.claim", "1", FULL_CACHE, "run", "small.yaml", by=AT_CALL)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "a checkpoint can't be written" in line]
    assert list(dict.fromkeys(line.split(":")[0] for line in warnings)) == ["teacher", "hard-labels", "kd"]
    assert "No space left on device" in warnings[0]
    (place.folder / "cache" / "filler").unlink()
    assert place.outcome() == whole


@pytest.mark.fault
def test_data_that_finds_no_room_is_decoded_when_there_is_some(
    place: Place, mount: Callable[[Path], None], whole: dict[str, Any]
) -> None:
    mount(place.folder / "cache")
    decode = ("kdmodels.data.published:write_arrays", "1")
    failed = place.kd(*decode, FULL_CACHE, "run", "small.yaml", by=AT_CALL)
    assert failed.returncode == 1
    assert "the decoded images can't be kept there: No space left on device" in one_error(failed.stderr)
    (place.folder / "cache" / "filler").unlink()
    done = place.kd("run", "small.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert place.outcome() == whole


@pytest.mark.fault
def test_a_store_that_is_read_only_is_told_before_anything_is_trained(small_store: Place) -> None:
    store = small_store.folder / "mlruns"
    subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
    before = sorted(store.rglob("*"))
    failed = small_store.kd("run", "small.yaml")
    assert failed.returncode == 1
    assert str(store) in one_error(failed.stderr)
    assert "training" not in failed.stderr
    assert sorted(store.rglob("*")) == before
