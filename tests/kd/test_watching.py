"""The stage of a comparison or generation, from its lines and artifacts, and a run that is not recorded yet."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Running
from rich.console import Console

from flows.distill import distill
from kd.progress import Line
from kd.watching import generation_stage, running_whole_run, stage
from kdmodels.errors import UserError
from tasks import tracking


def lines(**statuses: str) -> list[Line]:
    """Return the line of the teacher and of each student, by name and status."""
    return [Line("teacher" if name == "teacher" else "student", name, status, 1) for name, status in statuses.items()]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"teacher": "waiting", "kd": "waiting"}, "teacher"),
        ({"teacher": "training", "labels": "training", "kd": "waiting"}, "teacher"),  # labels alone need no teacher
        ({"teacher": "finished", "kd": "waiting"}, "knowledge"),
        ({"teacher": "reused", "labels": "reused", "kd": "waiting"}, "knowledge"),
        ({"teacher": "reused", "kd": "tuning", "hint": "waiting"}, "students"),
        ({"teacher": "reused", "kd": "failed", "hint": "waiting"}, "students"),
        ({"teacher": "reused", "kd": "failed", "hint": "finished"}, "compare"),
    ],
)
def test_the_stage_follows_from_the_lines(statuses: dict[str, str], expected: str) -> None:
    assert stage(lines(**statuses), has_leaderboard=False, has_verdict=False) == expected


def test_the_last_stages_follow_from_the_artifacts() -> None:
    ended = lines(teacher="reused", kd="finished")
    assert stage(ended, has_leaderboard=True, has_verdict=False) == "promote"
    assert stage(ended, has_leaderboard=True, has_verdict=True) == "report"


@pytest.fixture
def empty_store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    tracking.configure()


@pytest.mark.usefixtures("empty_store", "prefect_server")
def test_a_comparison_that_prepares_its_data_is_awaited() -> None:
    output = StringIO()
    with get_client(sync_client=True) as client, ThreadPoolExecutor() as pool:
        flow_run = client.create_flow_run(distill, name="digits 2026-11-28 03:00", state=Running())
        found = pool.submit(running_whole_run, Console(file=output, width=200))
        while not output.getvalue():
            assert not found.done()
            time.sleep(0.05)
        run_id = tracking.start("digits", "digits", "comparison")
        assert found.result().run_id == run_id
        client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
    assert output.getvalue() == "digits 2026-11-28 03:00: prepares its data; waiting for the first record\n"


@pytest.mark.usefixtures("empty_store", "prefect_server")
def test_a_comparison_that_ends_while_it_prepares_its_data_is_no_longer_awaited() -> None:
    output = StringIO()
    with get_client(sync_client=True) as client, ThreadPoolExecutor() as pool:
        flow_run = client.create_flow_run(distill, name="digits", state=Running())
        found = pool.submit(running_whole_run, Console(file=output))
        while not output.getvalue():
            assert not found.done()
            time.sleep(0.05)
        client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
        with pytest.raises(UserError, match="no comparison and no generation is running"):
            found.result()


@pytest.mark.parametrize(
    ("judge", "generator", "expected"),
    [
        ("waiting", "waiting", "judge"),
        ("training", "waiting", "judge"),
        ("finished", "waiting", "generator"),
        ("reused", "training", "generator"),
        ("reused", "reused", "promote"),
    ],
)
def test_the_stage_of_a_generation_follows_from_both_lines(judge: str, generator: str, expected: str) -> None:
    current = [Line("teacher", "teacher", judge, 1), Line("generator", "generator", generator, 1)]
    assert generation_stage(current) == expected
