"""`kd status` without a `kd up`. tests/faults/test_machine.py has one that runs."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.services.status import LastRun, MachineStatus, ScheduleStatus
from flows.services.up_state import only_up
from kd.commands import status as status_command
from tests.conftest import Here


def test_a_schedule_is_shown_with_the_last_message_and_verdict(kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 11, 29, 3, tzinfo=UTC)
    last = LastRun(name="mine", state="Failed", message="no data", started=moment, ended=moment)
    schedule = ScheduleStatus(
        name="mine", cron="0 3 * * *", timezone=None, every=None, active=False, file="mine.yaml", file_changed=True,
        next_run=None, last_run=last, verdict="kd is better", champion="mine-student/2",
    )  # fmt: skip
    completed = last.model_copy(update={"state": "Completed", "message": "nothing has changed; kd is better"})
    schedules = [schedule, schedule.model_copy(update={"name": "other", "last_run": completed})]
    status = MachineStatus(running=True, busy=False, logs="/logs", pid=7, started=moment, schedules=schedules)
    monkeypatch.setattr(status_command, "machine_status", lambda: status)
    code, out, _ = kd_here("status")
    assert code == 0
    *_, table, _, failed, verdict, reused = out.splitlines()
    assert "paused" in table
    assert "mine.yaml (changed since)" in table
    assert [failed, verdict] == ["mine: last run: no data", "mine: last verdict: kd is better"]
    assert reused == "other: last run: nothing has changed; kd is better"


def test_without_the_store_the_command_says_why_verdicts_are_missing(
    kd_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = ScheduleStatus(
        name="mine", cron="0 3 * * *", timezone=None, every=None, active=False, file="mine.yaml", file_changed=False,
        next_run=None, last_run=None, verdict=None, champion=None,
    )  # fmt: skip
    status = MachineStatus(
        running=True, busy=False, logs="/logs", pid=7, schedules=[schedule], store_error="the store does not answer"
    )
    monkeypatch.setattr(status_command, "machine_status", lambda: status)
    code, out, _ = kd_here("status")
    assert code == 0
    assert out.splitlines()[-1] == "no verdicts and champions: the store does not answer"
    assert "last verdict" not in out


def test_a_machine_without_kd_up(kd_here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    logs = tmp_path / "kdflow-logs"
    code, out, _ = kd_here("status")
    expected = ["kd up     does not run. Start it with kd up --detach", f"logs      {logs}"]
    assert (code, out.splitlines()) == (1, expected)
    code, out, _ = kd_here("status", "--json")
    assert code == 1
    assert json.loads(out) == {
        "running": False,
        "busy": False,
        "logs": str(logs),
        "pid": None,
        "started": None,
        "services": [],
        "schedules": [],
        "store_error": None,
    }
    with only_up():
        assert kd_here("status")[1].splitlines()[0] == "kd up     is starting or stopping"
