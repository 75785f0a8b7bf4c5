"""Whole commands in processes of their own, that are killed, and what their store says in the end."""

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

from tasks import tracking
from tasks.results import NETWORK, REPLICAS, ROWS

KD = [str(Path(sys.executable).with_name("kd"))]
AT_CALL = [sys.executable, str(Path(__file__).with_name("at_call.py"))]
KILL = "kill -KILL $PPID"  # at a call, the process that makes it
EXPERIMENT = """
name: small
threads: 1
data: {source: digits, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 20}
student: {network: {mlp: [16], dropout: 0.1}, epochs: 40, seeds: 2}
variants: [hard-labels, kd]
"""
# By the clock, or measured by it: no two runs agree on them.
TIMED = ("seconds/", "latency", "cost/memory")


@dataclass(frozen=True)
class Place:
    """A folder with an experiment, and a store and a cache of its own."""

    folder: Path
    environment: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def start(self, *words: str, by: list[str] = KD, **more: str) -> "subprocess.Popen[str]":
        """`kd WORDS`, which ends with the test if not before."""
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
        """`kd WORDS` to its end."""
        process = self.start(*words, by=by, **more)
        out, told = process.communicate(timeout=300)
        return subprocess.CompletedProcess(words, process.returncode, out, told)

    def outcome(self) -> dict[str, Any]:
        """What the store holds that must be the same however often the work was interrupted, and that it is sound."""
        tracking.configure()
        runs = tracking.runs()
        assert {run.status for run in runs} <= {"FINISHED", "KILLED"}, [(run.name, run.status) for run in runs]
        client = MlflowClient()
        finished = {run.name: run for run in runs if run.status == "FINISHED" and run.kind != "comparison"}
        assert len(finished) == len([run for run in runs if run.kind != "comparison"])  # the interrupted ones went on
        told: dict[str, Any] = {}
        for name, run in sorted(finished.items()):
            history = {key: client.get_metric_history(run.run_id, key) for key in run.metrics}
            steps = {key: [one.step for one in own] for key, own in history.items()}
            assert all(len(set(own)) == len(own) for own in steps.values()), f"{name}: a metric is there twice"
            told[name] = {
                "metrics": {
                    key: sorted((one.step, repr(one.value)) for one in own)
                    for key, own in history.items()
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
        told["leaderboard"] = [
            {
                **{
                    key: row[key]
                    for key in ("variant", "control", "status", "seeds", "per_seed", "parameters", "error")
                },
                "metrics": {key: value for key, value in row["metrics"].items() if not key.startswith(TIMED)},
            }
            for row in rows
        ]
        told["winner"] = newest.tags["kd.winner"]
        versions = tracking.versions("small-student")
        assert [(version.version, version.aliases) for version in versions] == [(1, ("champion",))]
        return told


def one_error(told: str) -> str:
    """The last line, the only one that is an error or of a traceback."""
    *before, last = told.splitlines()
    assert last.startswith("kd: error: ")
    assert not [line for line in before if line.startswith(("kd: error", "Traceback", "  File"))], told
    return last


def run_experiment(run_id: str) -> str:
    return str(MlflowClient().get_run(run_id).info.experiment_id)


@pytest.fixture(scope="session")
def new_place(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Callable[[], Place]:
    def new_place() -> Place:
        folder = tmp_path_factory.mktemp("place")
        (folder / "tmp").mkdir()
        (folder / "small.yaml").write_text(EXPERIMENT)
        ours = ("MLFLOW_", "KD_", "PREFECT_LOGGING_")  # the last is that of the server that the tests share
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return Place(
            folder,
            kept
            | {
                "PREFECT_API_URL": prefect_server,
                "MLFLOW_TRACKING_URI": new_store(folder / "mlruns"),
                "XDG_CACHE_HOME": str(folder / "cache"),
                "TMPDIR": str(folder / "tmp"),
                "KD_CHECKPOINT_SECONDS": "0.2",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
        )

    return new_place


@contextlib.contextmanager
def used(place: Place) -> Iterator[Place]:
    """A place whose store this process reads too, and whose commands end with the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "XDG_CACHE_HOME"):
            patch.setenv(name, place.environment[name])
        try:
            yield place
        finally:
            for process in place.started:
                process.kill()
                process.wait()


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Iterator[Place]:
    """An empty one."""
    with used(new_place()) as place:
        yield place


@pytest.fixture(scope="session")
def uninterrupted(new_place: Callable[[], Place]) -> tuple[dict[str, Any], float]:
    """The outcome of a run that nothing interrupted, and its seconds."""
    place = new_place()
    done = place.kd("run", "small.yaml", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["verdict"]["promoted"]
    with used(place):
        outcome = place.outcome()
    shutil.rmtree(place.folder)
    return outcome, told["seconds"]["total"]


@pytest.fixture(scope="session")
def whole(uninterrupted: tuple[dict[str, Any], float]) -> dict[str, Any]:
    """That outcome."""
    return uninterrupted[0]


@pytest.fixture
def mount() -> Iterator[Callable[[Path], None]]:
    """Put a disk of that folder's own over it, 16 MB large and empty; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "kdflow-test", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
