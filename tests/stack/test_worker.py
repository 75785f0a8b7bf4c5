"""The worker of the stack: scheduled runs, the code and the images of a user, and a killed worker."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.stack.clients import SMALL, Client
from tests.stack.processes import Stack

pytestmark = pytest.mark.stack
NEVER = "0 3 1 1 *"  # the tests start the runs of a schedule themselves
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
NETS = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""


def until(true: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.3)


def schedule(client: Client, name: str, **changes: Any) -> str:
    """Schedule an experiment on a client, start one run, and return the id of the flow run."""
    (client.folder / f"{name}.yaml").write_text(yaml.safe_dump(SMALL | {"name": name} | changes))
    done = client.kd("schedule", f"{name}.yaml", "--cron", NEVER)
    assert done.returncode == 0, done.stderr
    deployment = client.ask_prefect(f"/deployments/name/distill/{name}")
    return str(client.ask_prefect(f"/deployments/{deployment['id']}/create_flow_run", {})["id"])


def state_of(client: Client, run: str) -> dict[str, Any]:
    state: dict[str, Any] = client.ask_prefect(f"/flow_runs/{run}")["state"]
    return state


def end_of(client: Client, run: str) -> dict[str, Any]:
    """Wait until a flow run ends, and return its state."""
    until(lambda: state_of(client, run)["type"] in ENDED)
    return state_of(client, run)


@pytest.fixture(scope="module")
def photos(project: Path) -> Path:
    """Write images in 2 classes, which the worker sees as ./photos."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("left", "right")):
        (project / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = generator.integers(0, 100, (8, 8), dtype=np.uint8)
            pixels[:, 4 * label : 4 * label + 4] += 150
            Image.fromarray(pixels).save(project / "photos" / name / f"{number}.png")
    (project / "nets.py").write_text(NETS)
    return project / "photos"


def test_the_worker_runs_a_schedule(ann: Client) -> None:
    flow_run = schedule(ann, "nightly", seed=11)  # no other test has trained these students
    assert end_of(ann, flow_run)["type"] == "COMPLETED"
    assert ann.status("nightly") == ["FINISHED"] * 4


@pytest.mark.usefixtures("photos")
def test_code_that_the_owner_of_the_worker_does_not_allow_is_refused(ann: Client) -> None:
    run = schedule(ann, "forbidden", data="./photos", student={"network": "nets:Small", "epochs": 1})
    state = end_of(ann, run)
    assert state["type"] == "FAILED"
    assert "the code of nets is not allowed in this schedule. Allowed: none. " in state["message"]


def test_a_client_cannot_allow_code(ann: Client) -> None:
    (ann.folder / "nets.py").write_text(NETS)
    (ann.folder / "own.yaml").write_text(yaml.safe_dump(SMALL | {"student": {"network": "nets:Small", "epochs": 1}}))
    done = ann.kd("schedule", "own.yaml", "--cron", NEVER, "--allow-code", "nets")
    assert done.returncode == 2
    assert done.stderr.startswith("kd: error: --allow-code nets: allowed with kd up on this machine only. ")


@pytest.mark.usefixtures("photos")
def test_the_code_and_the_images_of_a_user_reach_the_worker(stack: Stack, ann: Client) -> None:
    stack.stop("worker")
    stack.settings["STACK_WORKER_CODE"] = "nets"
    stack.start("worker")
    run = schedule(ann, "photos", data="./photos", student={"network": "nets:Small", "epochs": 1})
    state = end_of(ann, run)
    assert state["type"] == "COMPLETED", state["message"]
    assert ann.status("photos") == ["FINISHED"] * 4


@pytest.mark.parametrize(("end", "seed"), [("kill", 1), ("stop", 2)])  # each run trains a teacher of its own
def test_a_run_continues_after_the_worker_was_ended(stack: Stack, ann: Client, end: str, seed: int) -> None:
    name = f"long-{end}"
    teacher = {"network": {"mlp": [64]}, "epochs": 600}
    run = schedule(ann, name, seed=seed, teacher=teacher, variants=["kd"])
    checkpoints = stack.folder / "home" / ".cache" / "kdflow" / "stores"
    until(lambda: list(checkpoints.glob("*/checkpoints/*/epoch-*.json")))
    getattr(stack, end)("worker")
    stack.start("worker")
    state = end_of(ann, run)
    assert state["type"] == "COMPLETED", state["message"]
    assert set(ann.status(name)) <= {"FINISHED", "KILLED"}
    resumed = [run for run in ann.runs("tags.kd.kind = 'teacher'") if "kd.resumed" in tags(run)]
    assert [experiment_of(ann, run) for run in resumed].count(name) == 1
    assert int(tags(resumed[0])["kd.resumed_epoch"]) > 0


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def experiment_of(client: Client, run: dict[str, Any]) -> str:
    path = f"/experiments/get?experiment_id={run['info']['experiment_id']}"
    return str(client.ask_mlflow(path)["experiment"]["name"])
