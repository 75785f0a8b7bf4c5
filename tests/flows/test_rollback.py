"""The flow `rollback`: an earlier champion or a named version becomes the champion."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput

from flows.rollback import rollback
from kdmodels.errors import UserError
from tasks import tracking
from tasks.tracking.contents import ONNX
from tasks.tracking.tags import Tag


@pytest.fixture
def model(
    new_store: Callable[[Path], str], tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A model with 3 versions, the last of which is the champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    for number in (1, 2, 3):
        run_id = tracking.start("digits", f"student {number}", "student", key=str(number))
        client, experiment = MlflowClient(), tracking.experiment_id("digits")
        model = client.create_logged_model(experiment, name="model", source_run_id=run_id, tags={Tag.FORMAT: ONNX})
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        tracking.set_champion(tracking.register("back", run_id, tags={}, description=""))
    return "back"


def test_the_previous_champion_is_restored(model: str) -> None:
    assert rollback(model).version == 2
    assert [version.aliases for version in tracking.versions(model)] == [(), ("champion",), ("previous",)]
    assert "kd.rolled_back" in tracking.find_model(f"{model}/3").tags


def test_a_named_version_is_restored(model: str) -> None:
    assert rollback(model, 1).version == 1
    assert [version.aliases for version in tracking.versions(model)] == [(), (), ("champion",)]
    with pytest.raises(UserError, match="version 1 is the champion"):
        rollback(model, 1)
    with pytest.raises(UserError, match="has no version 9; it has: 1, 2, 3"):
        rollback(model, 9)
