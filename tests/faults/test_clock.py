"""The clock is set back by two days after a run was killed, and before it is resumed."""

import json
from typing import Any

import pytest

from tasks import tracking
from tests.faults.conftest import AT_CALL, KILL, Workspace

SET_BACK = """
import time
for name, unit in ("time", 1), ("time_ns", 1_000_000_000):
    def earlier(now=getattr(time, name), days=2 * 86_400 * unit):
        return now() - days
    setattr(time, name, earlier)
"""


@pytest.mark.fault
def test_a_clock_set_back_changes_neither_the_outcome_nor_the_latest_run(
    workspace: Workspace, expected: dict[str, Any]
) -> None:
    (workspace.folder / "sitecustomize.py").write_text(SET_BACK)
    earlier = {"PYTHONPATH": f"{workspace.folder}:{workspace.environment['PYTHONPATH']}"}
    killed = workspace.kd("tasks.training_runs:EpochLog.__call__", "50", KILL, "run", "small.yaml", by=AT_CALL)
    assert killed.returncode < 0
    before = creation_times(workspace)
    done = workspace.kd("run", "small.yaml", **earlier)
    assert done.returncode == 0, done.stderr
    assert " was interrupted " in done.stderr
    assert workspace.outcome() == expected  # reads the latest comparison
    newest, *others = tracking.runs(kind="comparison")
    assert newest.created > max(before)
    assert [run.status for run in others] == ["KILLED"]
    listed = json.loads(workspace.kd("list", "--json", **earlier).stdout)
    assert all(row["seconds"] >= 0 for row in listed)


def creation_times(workspace: Workspace) -> list[int]:
    tracking.configure()
    return [run.created for run in tracking.runs()]
