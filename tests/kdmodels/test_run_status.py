import json

from mlflow.entities import RunStatus as MlflowRunStatus

from kdmodels.run_status import RunStatus


def test_every_status_of_mlflow_has_a_name() -> None:
    assert sorted(RunStatus) == sorted(map(MlflowRunStatus.to_string, MlflowRunStatus.all_status()))


def test_a_status_is_stored_and_printed_as_text() -> None:
    assert json.dumps({"status": RunStatus.FINISHED}) == '{"status": "FINISHED"}'
    assert f"{RunStatus.KILLED}" == "KILLED"
