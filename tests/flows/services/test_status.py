"""The schedules of `kd status` without a tracking store. tests/faults/test_machine.py tests a real `kd up`."""

from collections.abc import Iterator

import pytest

from flows.services import status
from flows.services.deployments import delete_schedule
from flows.services.schedules import create_schedule
from flows.services.up_state import UpState
from kdmodels.experiment import Experiment

EXPERIMENT = {
    "name": "without-store",
    "data": "digits",
    "teacher": {"network": {"mlp": [16]}, "epochs": 1},
    "student": {"network": {"mlp": [8]}, "epochs": 1},
    "variants": ["hard-labels", "kd"],
}


@pytest.fixture
def scheduled(prefect_server: str) -> Iterator[str]:
    """Schedule an experiment on the server, and yield the address of the server."""
    create_schedule(Experiment.model_validate(EXPERIMENT), cron="0 3 1 1 *")
    yield prefect_server
    delete_schedule("without-store")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("http://127.0.0.1:9", "no answer from the MLflow server at 'http://127.0.0.1:9'"),
        (None, "the address of the tracking store contains a password. Set MLFLOW_TRACKING_URI as for kd up"),
    ],
)
def test_schedules_are_shown_without_the_store(
    scheduled: str, monkeypatch: pytest.MonkeyPatch, store: str | None, message: str
) -> None:
    monkeypatch.setattr(status, "running_up", lambda: UpState(url=scheduled, pid=1, store=store))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shown = status.machine_status()
    (schedule,) = [schedule for schedule in shown.schedules if schedule.name == "without-store"]
    assert schedule.cron == "0 3 1 1 *"
    assert (schedule.verdict, schedule.champion) == (None, None)
    assert shown.store_error
    assert shown.store_error.startswith(message)
