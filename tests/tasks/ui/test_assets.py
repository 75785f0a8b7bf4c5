"""Assets on a real Prefect server, which records assets as events."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.services.prefect_internals.client import refresh_settings, send_queued_logs_and_events
from tasks import tracking
from tasks.references import TeacherReference, VerdictReference
from tasks.ui.assets import publish_champion, publish_teacher

VERDICT = VerdictReference(
    promoted=True, already_champion=False, accepted=True, model="my digits", version=3, winner="kd",
    reason="kd becomes the first champion.", evidence={}, test_accuracy={"kd": 0.95},
)  # fmt: skip


@pytest.fixture(autouse=True)
def store(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


@pytest.fixture
def ui(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_UI_URL", "http://prefect.example")
    refresh_settings()


@flow
def publish(verdict: VerdictReference, teacher: TeacherReference) -> None:
    publish_teacher(teacher, "digits")
    publish_champion(verdict, teacher.run_id)


def materialized(teacher: TeacherReference, verdict: VerdictReference = VERDICT) -> list[dict[str, Any]]:
    """Publish the assets, and return the events of the teacher's run, sorted by key."""
    publish(verdict, teacher)
    send_queued_logs_and_events(10)
    query = {"event": {"name": ["prefect.asset.materialization.succeeded"]}}
    with get_client(sync_client=True) as client:
        for _ in range(50):
            events = client.request("POST", "/events/filter", json={"filter": query}).json()["events"]
            found = [event for event in events if teacher.run_id in str(event)]
            if len(found) == 2:
                break
            time.sleep(0.1)
    return sorted(found, key=lambda event: str(event["resource"]["prefect.resource.id"]))


@pytest.mark.usefixtures("ui")
def test_a_new_champion_depends_on_its_teacher() -> None:
    with mlflow.start_run() as run:
        teacher = TeacherReference(run_id=run.info.run_id, reused=False, metrics={"val/accuracy": 0.97})
    champion, source = materialized(teacher)
    assert champion["resource"]["prefect.resource.id"] == "mlflow://models/my-digits/versions/3"
    assert champion["resource"]["prefect.resource.name"] == "my digits/3"
    assert champion["payload"] == {"variant": "kd", "kd": 0.95}
    assert source["resource"]["prefect.resource.id"] == f"mlflow://runs/{teacher.run_id}"
    assert source["resource"]["prefect.resource.id"] in [part["prefect.resource.id"] for part in champion["related"]]
