"""Many clients at once: what they run, what they record, and how long it takes."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.stack.clients import SMALL, Client

VARIANTS = ["hard-labels", "label-smoothing", "logit-regression", "dist", "hint", {"kd": {"temperature": [1, 2, 4]}}]
STUDENTS = 8


@dataclass(frozen=True)
class Load:
    """The students of all clients, and the seconds that all clients together took."""

    students: list[list[dict[str, Any]]]
    seconds: float


def experiment(name: str, seed: int, variants: Sequence[object] = VARIANTS) -> dict[str, Any]:
    return SMALL | {"name": name, "seed": seed, "variants": list(variants)}


def run_at_once(clients: Sequence[Client], prefix: str) -> Load:
    """Run an experiment with eight students on each client, all at once.

    Raises:
        AssertionError: A command failed.
    """
    for number, client in enumerate(clients):
        # No other test trains students with these seeds, so none is reused.
        (client.folder / "team.yaml").write_text(yaml.safe_dump(experiment(f"{prefix}-{number}", 100 + number)))
    began = time.monotonic()
    processes = [client.start("run", "team.yaml", "--quiet", "--json") for client in clients]
    ended = [process.communicate(timeout=900) for process in processes]
    seconds = time.monotonic() - began
    for process, (_, stderr) in zip(processes, ended, strict=True):
        assert process.returncode == 0, stderr
    return Load([json.loads(stdout)["students"] for stdout, _ in ended], seconds)


def requests_in(log: Path) -> int:
    """Return the number of requests in the log of an MLflow server."""
    return log.read_text(errors="replace").count(' HTTP/1.1" ')


def values_of(client: Client, name: str) -> dict[str, int]:
    """Return the number of recorded values of each metric of the students of an experiment.

    Results on the test split are left out: they depend on whether the control wins.
    """
    found = client.ask_mlflow(f"/experiments/get-by-name?experiment_name={name}")["experiment"]
    body = {"experiment_ids": [found["experiment_id"]], "filter": "tags.kd.kind = 'student'", "max_results": 1000}
    counts: dict[str, int] = {}
    for run in client.ask_mlflow("/runs/search", body)["runs"]:
        for metric in run["data"]["metrics"]:
            if metric["key"].startswith("test/"):
                continue
            path = f"/metrics/get-history?run_id={run['info']['run_id']}&metric_key={metric['key']}"
            counts[metric["key"]] = counts.get(metric["key"], 0) + len(client.ask_mlflow(path)["metrics"])
    return counts
