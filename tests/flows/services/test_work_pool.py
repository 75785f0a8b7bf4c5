"""The work pool on a real server."""

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate

from flows import distill, generate
from flows.services.prefect_internals.client import refresh_settings
from flows.services.work_pool import ENTRYPOINT, GENERATE, POOL, prepare_pool


@pytest.mark.usefixtures("prefect_server")
def test_a_changed_job_template_is_reset() -> None:
    refresh_settings()
    with get_client(sync_client=True) as client:
        prepare_pool(client)
        template = client.read_work_pool(POOL).base_job_template
        command = template["job_configuration"]["command"]
        template["job_configuration"]["command"] = "touch planted"
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        assert client.read_work_pool(POOL).base_job_template["job_configuration"]["command"] == "touch planted"
        prepare_pool(client)
        assert client.read_work_pool(POOL).base_job_template["job_configuration"]["command"] == command


def test_the_entrypoints_of_schedules_are_the_flows() -> None:
    assert f"{distill.__name__}.distill" == ENTRYPOINT
    assert f"{generate.__name__}.generate" == GENERATE
