"""A server that restarts in the middle of a run: the run ends with the same results."""

import json
import time
from typing import Any

import pytest
import yaml

from tests.stack.clients import SMALL, Client
from tests.stack.processes import Stack

pytestmark = pytest.mark.stack
LONG = SMALL | {"name": "interrupted", "teacher": {"network": {"mlp": [64]}, "epochs": 200}}
TIMED = ("seconds/", "memory_mb/", "gpu_memory_mb/", "latency", "cost/memory")


def results(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results that must not depend on an interruption."""
    rows = [outcome["teacher"], *outcome["students"]]
    return [
        {name: value for name, value in row["metrics"].items() if not name.startswith(TIMED)}
        | {"variant": row.get("variant"), "seeds": row.get("per_seed")}
        for row in rows
    ]


@pytest.fixture(scope="module")
def expected(ann: Client) -> list[dict[str, Any]]:
    (ann.folder / "long.yaml").write_text(yaml.safe_dump(LONG))
    return results(ann.outcome("run", "long.yaml", "--fresh", "--quiet"))


@pytest.mark.parametrize("service", ["mlflow", "prefect", "postgres", "seaweedfs"])
def test_a_run_survives_the_restart_of_a_server(
    stack: Stack, ann: Client, expected: list[dict[str, Any]], service: str
) -> None:
    process = ann.start("run", "long.yaml", "--fresh", "--quiet", "--json")
    running = "tags.kd.kind = 'teacher' and attributes.status = 'RUNNING' and metrics.epoch > 5"
    while not ann.runs(running):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.3)
    stack.kill(service)
    time.sleep(3)
    stack.start(service)
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert results(json.loads(stdout)) == expected
    assert "RUNNING" not in ann.status("interrupted")
