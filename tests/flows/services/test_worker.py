"""Which deployments the worker runs, and in which process. test_up.py does the same on a real server."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.services.schedule_records import records_folder
from flows.services.work_pool import ENTRYPOINT
from flows.services.worker import ScheduledRun, require_own_flow
from kdmodels.errors import UserError


def deployment(**changes: Any) -> DeploymentResponse:
    return DeploymentResponse.model_validate({"name": "small", "flow_id": uuid4(), "entrypoint": ENTRYPOINT, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entrypoint": "evil_flow.py:f"}, "entrypoint: evil_flow.py:f: this worker runs flows.distill.distill, "),
        ({"entrypoint": None}, "entrypoint: None: this worker runs flows.distill.distill, "),
        ({"pull_steps": [{"run_shell_script": {"script": "touch x"}}]}, "pull_steps: this worker runs no pull steps; "),
    ],
)
def test_deployments_of_other_code_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        require_own_flow(deployment(**changes))
    assert str(error.value).startswith(message)


def test_a_flow_run_without_a_deployment_is_refused() -> None:
    with pytest.raises(UserError, match=r"got a flow run without a deployment$"):
        require_own_flow(None)


def test_a_run_ignores_the_process_settings_of_the_api(no_server: Path) -> None:
    job = ScheduledRun(
        command="touch planted", env={"KD_ALLOW_CODE": "evil", "PYTHONPATH": "/evil"}, working_dir=Path("/evil")
    )
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="small"), deployment())
    assert job.command == shlex.join([sys.executable, "-P", "-m", "prefect.engine"])
    assert job.working_dir == records_folder()
    assert "KD_ALLOW_CODE" not in job.env
    assert job.env.get("PYTHONPATH") == os.environ.get("PYTHONPATH")


def test_prefect_still_has_what_the_worker_relies_on() -> None:
    fields = ProcessJobConfiguration.model_fields
    assert {"command", "env", "working_dir"} <= fields.keys(), (
        "Prefect's ProcessJobConfiguration lost a field that ScheduledRun replaces: check flows/services/worker.py"
    )
    assert ProcessWorker.job_configuration is ProcessJobConfiguration, (
        "Prefect's ProcessWorker no longer takes its process settings from job_configuration: "
        "check flows/services/worker.py, or any deployment can run any command"
    )
