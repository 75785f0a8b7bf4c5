"""Which missed runs are skipped. tests/faults/test_machine.py skips runs on a real server."""

from uuid import UUID, uuid4

from prefect.client.schemas.objects import FlowRun

from flows.services.missed_runs import superseded

FIRST, SECOND = uuid4(), uuid4()


def run(name: str, deployment: UUID, *, auto_scheduled: bool = True) -> FlowRun:
    return FlowRun(name=name, flow_id=uuid4(), deployment_id=deployment, auto_scheduled=auto_scheduled)


def test_the_newest_missed_run_of_each_schedule_is_kept() -> None:
    due = [run("3", FIRST), run("other", SECOND), run("2", FIRST), run("1", FIRST)]
    assert [skipped.name for skipped in superseded(due)] == ["2", "1"]
    assert superseded(due[:2]) == superseded([]) == []


def test_runs_that_a_user_requested_are_kept() -> None:
    due = [run("now", FIRST, auto_scheduled=False), run("2", FIRST), run("earlier", FIRST, auto_scheduled=False)]
    assert superseded(due) == []
