"""The forms of Prefect's UI on a real server. test_up.py starts a flow run with a form."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows.services.forms import create_forms
from flows.services.schedule_records import records_folder
from flows.services.work_pool import PROMOTE, ROLLBACK, prepare_pool


@pytest.mark.usefixtures("prefect_server")
def test_forms_describe_each_field_and_allow_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with get_client(sync_client=True) as client:
        prepare_pool(client)
        create_forms(client)
        create_forms(client)  # a later start of `kd up` updates the forms
        promote, rollback = (client.read_deployment_by_name(f"{name}/{name}") for name in ("promote", "rollback"))
    assert (promote.entrypoint, rollback.entrypoint) == (PROMOTE, ROLLBACK)
    for form, names in ((promote, ["run", "data_dir", "force", "dry_run"]), (rollback, ["model", "to"])):
        fields = form.parameter_openapi_schema["properties"]
        assert list(fields) == names
        assert all(field["description"].endswith(".") for field in fields.values())
        assert form.enforce_parameter_schema
        record = (records_folder() / f"{form.id}.json").read_text()
        assert '"allow_code":[]' in record
