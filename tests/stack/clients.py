"""Client machines of a stack. Each has a home, a cache and a working folder of its own, and no key of the S3 store."""

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.stack.compose import ROOT
from tests.stack.processes import PROGRAMS, Stack

SMALL: dict[str, Any] = {
    "name": "small",
    "threads": 1,
    "runner": {"kind": "thread"},
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [32]}, "epochs": 1},
    "student": {"network": {"mlp": [8]}, "epochs": 1},
    "variants": ["hard-labels", "kd"],
}


@dataclass(frozen=True)
class Client:
    """A machine with `kd`, and a login to the servers."""

    folder: Path
    environment: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [PROGRAMS["kd"](), *words],
            cwd=self.folder,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def kd(self, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words, **more)
        stdout, stderr = process.communicate(timeout=900)
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    def outcome(self, *words: str, **more: str) -> Any:
        """Run a command that must succeed, and return the JSON document that it prints."""
        done = self.kd(*words, "--json", **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ask_prefect(self, path: str, body: object = None) -> Any:
        """Send a request to Prefect's API, and return the answer."""
        return _ask(f"{self.environment['PREFECT_API_URL']}{path}", self.environment["PREFECT_API_AUTH_STRING"], body)

    def ask_mlflow(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Send a request to MLflow's API, and return the answer."""
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        login = ":".join(self.environment[name] for name in names)
        return _ask(f"{self.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow{path}", login, body, method)

    def runs(self, condition: str = "") -> list[dict[str, Any]]:
        """Return all runs of the store."""
        experiments = self.ask_mlflow("/experiments/search", {"max_results": 1000})["experiments"]
        ids = [experiment["experiment_id"] for experiment in experiments]
        body = {"experiment_ids": ids, "filter": condition, "max_results": 5000}
        return self.ask_mlflow("/runs/search", body).get("runs", [])

    def status(self, experiment: str) -> list[str]:
        """Return the status of the runs of an experiment."""
        found = self.ask_mlflow(f"/experiments/get-by-name?experiment_name={experiment}")["experiment"]
        body = {"experiment_ids": [found["experiment_id"]], "max_results": 1000}
        return [run["info"]["status"] for run in self.ask_mlflow("/runs/search", body)["runs"]]

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


def _ask(url: str, login: str, body: object, method: str | None = None) -> Any:
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def new_user(stack: Stack, folder: Path, name: str) -> Client:
    """Create a user of MLflow, and make the user's machine in a new folder."""
    password = secrets.token_urlsafe(16)
    admin = f"admin:{stack.settings['STACK_MLFLOW_ADMIN_PASSWORD']}"
    _ask(f"{stack.mlflow}/api/2.0/mlflow/users/create", admin, {"username": name, "password": password})
    return new_client(stack, folder, name, password)


def new_client(stack: Stack, folder: Path, user: str, password: str) -> Client:
    """Make a client machine in a new folder."""
    for name in ("home", "work", "tmp"):
        (folder / name).mkdir(parents=True)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": stack.mlflow,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
        "PREFECT_API_URL": stack.prefect,
        "PREFECT_API_AUTH_STRING": f"kdflow:{stack.settings['STACK_PREFECT_PASSWORD']}",
    }
    return Client(folder / "work", environment)
