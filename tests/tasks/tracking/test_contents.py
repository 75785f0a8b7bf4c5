from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus

from tasks import tracking
from tasks.tracking.contents import ONNX, artifact_names, model_id, model_uri


def model_of(run_id: str, status: LoggedModelStatus = LoggedModelStatus.READY, kind: str = ONNX) -> str:
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run_id, tags={"kd.format": kind})
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if status != LoggedModelStatus.PENDING:
        client.finalize_logged_model(model.model_id, status)
    return str(model.model_id)


def test_a_new_run_has_neither_artifacts_nor_a_model(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    assert artifact_names(run_id) == []
    assert (model_id(run_id), model_uri(run_id)) == (None, None)


def test_artifacts_are_named_in_order(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    for path in ("b.txt", "c/d.txt", "a.txt"):
        tracking.log_text(run_id, path, "")
    assert artifact_names(run_id) == ["a.txt", "b.txt", "c"]


def test_only_a_complete_onnx_model_counts(store: Path) -> None:
    run_id = tracking.start("digits", "kd", "student")
    model_of(run_id, LoggedModelStatus.PENDING)
    model_of(run_id, LoggedModelStatus.FAILED)
    model_of(run_id, kind="pt2")
    deleted = model_of(run_id)
    MlflowClient().delete_logged_model(deleted)
    assert model_id(run_id) is None
    complete = model_of(run_id)
    assert model_id(run_id) == complete
    assert model_uri(run_id) == f"models:/{complete}"
