"""Progress artifacts on a real Prefect server. test_comparison.py has those of a whole comparison."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact as CreatedArtifact

from flows.distill import plan_only
from flows.services.prefect_internals.client import refresh_settings
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.cross_validation import Fold, prepare_folds
from tasks.prepare_data import prepare_data
from tasks.references import Options
from tasks.ui import progress
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL | {"name": "bars", "variants": ["hard-labels"]})


@pytest.fixture
def fold(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str
) -> Fold:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    monkeypatch.setenv("PREFECT_UI_URL", "http://prefect.example")
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.05)
    refresh_settings()
    plan = plan_only(EXPERIMENT)
    (data,) = prepare_folds(EXPERIMENT, Options(), prepare_data.fn)
    parent = tracking.start("bars", "bars", "comparison")
    return Fold(experiment=EXPERIMENT, data=data, plan=plan, parent=parent)


def shown() -> tuple[object, str | None]:
    artifact = Artifact.get("bars-hard-labels")
    return (artifact.data, artifact.description) if artifact else (None, None)


def until(percent: float, description: str | None = None) -> None:
    """Wait until this progress is shown. Earlier tests have left an artifact with the same key."""
    deadline = time.monotonic() + 60
    while shown()[0] != percent or description not in (None, shown()[1]):
        assert time.monotonic() < deadline, shown()
        time.sleep(0.1)


def test_an_artifact_follows_the_epochs(fold: Fold) -> None:
    @flow
    def train() -> None:
        with progress.progress_artifacts(fold):
            run_id = tracking.start("bars", "hard-labels", "student", parent=fold.parent)
            with tracking.recording(run_id):
                until(0.0)
                tracking.log_metrics(run_id, [("epoch", 1, 1), ("val/accuracy", 0.5, 1)])
                until(33.3)
                assert shown()[1] == "hard-labels: running, validation accuracy 50.00 %"

    train()
    assert shown() == (100.0, "hard-labels: finished, validation accuracy 50.00 %")


def test_the_end_is_shown_also_if_the_last_epoch_was_shown_before(fold: Fold) -> None:
    @flow
    def train() -> None:
        with progress.progress_artifacts(fold):
            run_id = tracking.start("bars", "hard-labels", "student", parent=fold.parent)
            with tracking.recording(run_id):
                tracking.log_metrics(run_id, [("epoch", 3, 3)])
                until(100.0, "hard-labels: running")

    train()
    assert shown() == (100.0, "hard-labels: finished")


def test_an_artifact_that_cannot_be_updated_does_not_stop_the_training(
    fold: Fold, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def train() -> str:
        with progress.progress_artifacts(fold):
            run_id = tracking.start("bars", "hard-labels", "student", parent=fold.parent)
            with tracking.recording(run_id), get_client(sync_client=True) as client:
                until(0.0)
                artifact = Artifact.get("bars-hard-labels")
                assert isinstance(artifact, CreatedArtifact)
                client.delete_artifact(artifact.id)
                tracking.log_metrics(run_id, [("epoch", 1, 1)])
        return tracking.get(run_id).status

    assert train() == "FINISHED"
    assert "no more progress is shown: " in caplog.text
