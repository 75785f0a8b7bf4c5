"""Run whole commands in their own processes, interrupt them, and compare what their store holds in the end."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from tasks import tracking
from tasks.results import NETWORK, REPLICAS, ROWS
from tests.faults.servers import Server, free_port

KD = [str(Path(sys.executable).with_name("kd"))]
AT_CALL = [sys.executable, str(Path(__file__).with_name("at_call.py"))]
KILL = "kill -KILL $PPID"  # with AT_CALL: kills the process that makes the call
EXPERIMENT = """
name: small
threads: 1
data: {source: digits, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 20}
student: {network: {mlp: [16], dropout: 0.1}, epochs: 40, seeds: 2}
variants: [hard-labels, kd]
runner: {kind: thread}
"""  # the runner is that of the moments at which tests interrupt this process
# Metrics that are timings, or depend on timings, and so differ between runs.
TIMED = ("seconds/", "memory_mb/", "gpu_memory_mb/", "latency", "cost/memory")


@dataclass(frozen=True)
class Workspace:
    """A folder with an experiment, its own store and its own cache."""

    folder: Path
    environment: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *words: str, by: list[str] = KD, **more: str) -> "subprocess.Popen[str]":
        """Start `kd WORDS`. The process is killed at the end of the test."""
        process = subprocess.Popen(
            [*by, *words],
            cwd=self.folder,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def kd(self, *words: str, by: list[str] = KD, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run `kd WORDS` and wait for its end."""
        process = self.start(*words, by=by, **more)
        stdout, stderr = process.communicate(timeout=900)
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    def outcome(self) -> dict[str, Any]:
        """Return the content of the store that must not depend on interruptions, after checks of its consistency."""
        tracking.configure()
        runs = tracking.runs()
        assert {run.status for run in runs} <= {"FINISHED", "KILLED"}, [(run.name, run.status) for run in runs]
        client = MlflowClient()
        finished = {run.name: run for run in runs if run.status == "FINISHED" and run.kind != "comparison"}
        assert len(finished) == len([run for run in runs if run.kind != "comparison"])  # interrupted runs were resumed
        content: dict[str, Any] = {}
        for name, run in sorted(finished.items()):
            history = {key: client.get_metric_history(run.run_id, key) for key in run.metrics}
            steps = {key: [metric.step for metric in values] for key, values in history.items()}
            assert all(len(set(numbers)) == len(numbers) for numbers in steps.values()), (
                f"{name}: a step is logged twice"
            )
            content[name] = {
                "metrics": {
                    key: sorted((metric.step, repr(metric.value)) for metric in values)
                    for key, values in history.items()
                    if not key.startswith(TIMED)
                },
                "files": {
                    path.name: sha256(path.read_bytes()).hexdigest()
                    for kind in (NETWORK, REPLICAS)
                    if tracking.has_artifact(run.run_id, kind)
                    for path in sorted(tracking.artifact(run.run_id, kind).iterdir())
                },
            }
            models = client.search_logged_models([run_experiment(run.run_id)], f"source_run_id = '{run.run_id}'")
            assert [model.status for model in models].count("READY") == 1
        newest = tracking.runs(kind="comparison", limit=1)[0]
        assert newest.status == "FINISHED"
        rows = tracking.read_json(newest.run_id, ROWS)
        content["leaderboard"] = [
            {
                **{
                    key: row[key]
                    for key in ("variant", "control", "status", "seeds", "per_seed", "parameters", "error")
                },
                "metrics": {key: value for key, value in row["metrics"].items() if not key.startswith(TIMED)},
            }
            for row in rows
        ]
        content["winner"] = newest.tags["kd.winner"]
        versions = tracking.versions("small-student")
        assert [(version.version, version.aliases) for version in versions] == [(1, ("champion",))]
        return content


def single_error(stderr: str) -> str:
    """Return the last line, after a check that it is the only error and that there is no traceback."""
    *before, last = stderr.splitlines()
    assert last.startswith("kd: error: ")
    assert not [line for line in before if line.startswith(("kd: error", "Traceback", "  File"))], stderr
    return last


def run_experiment(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.experiment_id)


@pytest.fixture(scope="session")
def new_workspace(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Callable[[], Workspace]:
    def new_workspace() -> Workspace:
        folder = tmp_path_factory.mktemp("workspace")
        (folder / "tmp").mkdir()
        (folder / "small.yaml").write_text(EXPERIMENT)
        prefixes = ("MLFLOW_", "KD_", "PREFECT_LOGGING_")  # the tests' shared server sets the last
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        return Workspace(
            folder,
            inherited
            | {
                "PREFECT_API_URL": prefect_server,
                "MLFLOW_TRACKING_URI": new_store(folder / "mlruns"),
                "XDG_CACHE_HOME": str(folder / "cache"),
                "TMPDIR": str(folder / "tmp"),
                "KD_CHECKPOINT_SECONDS": "0.2",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
        )

    return new_workspace


@contextlib.contextmanager
def used(workspace: Workspace) -> Iterator[Workspace]:
    """Let this process read the workspace's store too, and kill the workspace's commands at the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "XDG_CACHE_HOME"):
            patch.setenv(name, workspace.environment[name])
        try:
            yield workspace
        finally:
            for process in workspace.started:
                process.kill()
                process.wait()
            end_flow_runs()


def end_flow_runs() -> None:
    """End the flow runs of killed processes, because the workspaces of later tests use the same Prefect server."""
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=running):
            client.set_flow_run_state(flow_run.id, Crashed(), force=True)


@pytest.fixture
def workspace(new_workspace: Callable[[], Workspace]) -> Iterator[Workspace]:
    """Yield an empty workspace."""
    with used(new_workspace()) as workspace:
        yield workspace


@pytest.fixture
def mlflow_server(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Yield a server of the workspace's store, which the workspace and this process use from now on."""
    port, store = free_port(), workspace.folder / "mlruns"
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--artifacts-destination", str(store),
    ]  # fmt: skip
    inherited = {name: value for name, value in workspace.environment.items() if name != "MLFLOW_TRACKING_URI"}
    inherited["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # as in tests/conftest.py
    workspace.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    server = Server(command, f"http://127.0.0.1:{port}", workspace.folder, inherited)
    yield server
    server.kill()


@pytest.fixture
def own_prefect(workspace: Workspace, prefect_home: Path) -> Iterator[Server]:
    """Yield a Prefect server that the workspace uses from now on."""
    home, port = workspace.folder / "prefect", free_port()
    shutil.copytree(prefect_home, home)
    url = f"http://127.0.0.1:{port}/api"
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)]
    more = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    server = Server(command, url, workspace.folder, workspace.environment | more)
    workspace.environment["PREFECT_API_URL"] = url
    yield server
    server.kill()


@pytest.fixture(scope="session")
def uninterrupted(new_workspace: Callable[[], Workspace]) -> tuple[dict[str, Any], float]:
    """Return the outcome of an uninterrupted run, and its duration in seconds."""
    workspace = new_workspace()
    done = workspace.kd("run", "small.yaml", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"]["promoted"]
    with used(workspace):
        outcome = workspace.outcome()
    shutil.rmtree(workspace.folder)
    return outcome, report["seconds"]["total"]


@pytest.fixture(scope="session")
def expected(uninterrupted: tuple[dict[str, Any], float]) -> dict[str, Any]:
    """Return the outcome of an uninterrupted run."""
    return uninterrupted[0]


@pytest.fixture
def mount() -> Iterator[Callable[[Path], None]]:
    """Mount an empty 16 MB disk over a folder. Skip the test if mounting is not allowed."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "kdflow-test", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"can't mount a disk: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
