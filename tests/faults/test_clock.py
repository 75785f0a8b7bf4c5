"""The clock is set back by two days while a run is interrupted, and between two runs."""

import json
from typing import Any

import pytest

from tasks import tracking
from tests.faults.conftest import AT_CALL, KILL, Place

SET_BACK = """
import time
for name, unit in ("time", 1), ("time_ns", 1_000_000_000):
    def earlier(now=getattr(time, name), days=2 * 86_400 * unit):
        return now() - days
    setattr(time, name, earlier)
"""


@pytest.mark.fault
def test_a_clock_that_was_set_back_changes_neither_the_outcome_nor_which_run_is_the_last(
    place: Place, whole: dict[str, Any]
) -> None:
    (place.folder / "sitecustomize.py").write_text(SET_BACK)
    earlier = {"PYTHONPATH": f"{place.folder}:{place.environment['PYTHONPATH']}"}
    killed = place.kd("tasks.runs:EpochLog.__call__", "50", KILL, "run", "small.yaml", by=AT_CALL)
    assert killed.returncode < 0
    before = tracking_starts(place)
    done = place.kd("run", "small.yaml", **earlier)
    assert done.returncode == 0, done.stderr
    assert " was interrupted " in done.stderr
    assert place.outcome() == whole  # of the comparison that is the newest
    newest, *others = tracking.runs(kind="comparison")
    assert newest.created > max(before)
    assert [run.status for run in others] == ["KILLED"]
    listed = json.loads(place.kd("list", "--json", **earlier).stdout)
    assert all(row["seconds"] >= 0 for row in listed)


def tracking_starts(place: Place) -> list[int]:
    tracking.configure()
    return [run.created for run in tracking.runs()]
