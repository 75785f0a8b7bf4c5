"""prefect.yaml: `prefect deploy` creates deployments that an ordinary process worker runs, and no code of the user.

The commands are those of docs/nightly.md.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun

from flows.services.work_pool import ENTRYPOINTS, POOL
from kdmodels.experiment import Experiment, GeneratorExperiment
from kdmodels.experiment.file import parse_experiment
from tests.conftest import SMALL

ROOT = Path(__file__).parents[1]
FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())


def test_the_worker_of_kd_up_runs_the_deployments() -> None:
    """It refuses pull steps and other entrypoints."""
    assert FILE["pull"] == []
    assert [deployment["entrypoint"] for deployment in FILE["deployments"]] == list(ENTRYPOINTS)
    assert {deployment["work_pool"]["name"] for deployment in FILE["deployments"]} == {POOL}
    compared, generated = (deployment["parameters"]["experiment"] for deployment in FILE["deployments"][:2])
    assert isinstance(parse_experiment(compared), Experiment)
    assert isinstance(parse_experiment(generated), GeneratorExperiment)


def prefect(environment: dict[str, str], *words: str, cwd: Path = ROOT) -> None:
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2_000:]


@pytest.fixture(scope="module")
def environment(
    prefect_server: str, new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Provide the environment of a user of `prefect deploy`, and deploy the file."""
    folder = tmp_path_factory.mktemp("deployed")
    environment = os.environ | {"PREFECT_HOME": str(folder), "MLFLOW_TRACKING_URI": new_store(folder / "mlruns")}
    prefect(environment, "--no-prompt", "work-pool", "create", POOL, "--type", "process", "--overwrite")
    prefect(environment, "--no-prompt", "deploy", "--all")
    return environment


@pytest.fixture(scope="module")
def client(environment: dict[str, str]) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def start(client: SyncPrefectClient, name: str, parameters: dict[str, Any]) -> FlowRun:
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


@pytest.mark.fault
def test_a_process_worker_runs_deployments_without_code_of_the_user(
    environment: dict[str, str], client: SyncPrefectClient, tmp_path: Path
) -> None:
    (tmp_path / "evil.py").write_text(f"import os\nos.makedirs({str(tmp_path / 'canary')!r})\n")
    evil = SMALL | {"student": {"network": "evil:Net", "epochs": 1}}
    runs = {
        "run": start(client, "distill/digits", {"experiment": SMALL | {"name": "deployed"}}),
        "code": start(client, "promote/promote", {"dry_run": True, "code": ["evil"]}),
        "model": start(client, "rollback/rollback", {"model": "none"}),
    }
    prefect(environment, "worker", "start", "--pool", POOL, "--run-once", cwd=tmp_path)
    runs["evil"] = start(client, "distill/digits", {"experiment": evil})  # the deployment has one run at a time
    prefect(environment, "worker", "start", "--pool", POOL, "--run-once", cwd=tmp_path)
    states = {name: client.read_flow_run(run.id).state for name, run in runs.items()}
    types = {name: state.type.value if state else None for name, state in states.items()}
    assert types == {"run": "COMPLETED", "evil": "FAILED", "code": "FAILED", "model": "FAILED"}
    messages = {name: state.message if state else "" for name, state in states.items()}
    assert "the code of evil is not allowed in this schedule. Allowed: none" in str(messages["evil"])
    assert "code: evil: a run that Prefect's UI starts uses no code of yours" in str(messages["code"])
    assert "model 'none' is not in the registry" in str(messages["model"])
    assert not (tmp_path / "canary").exists()
