"""A student is trained on a machine that shares only the servers with the command: no home, cache, data or folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdmodels.experiment import Experiment
from tasks import prepare_data as preparing
from tasks import tracking
from tasks.planning.plan import make_plan
from tasks.prepare_data import load, prepare_data
from tasks.references import KnowledgeReference
from tasks.results import KNOWLEDGE, REPLICAS
from tasks.stored_data import downloads, store_data
from tasks.student_job import StudentJob
from tests.faults.conftest import Workspace
from tests.faults.servers import Server

pytestmark = pytest.mark.fault

WORKER = """
import sys
from tasks.student_job import StudentJob
from tasks.train_student import _train
print(_train(StudentJob.model_validate_json(sys.stdin.read()), {}).run_id)
"""
EXPERIMENT = """
name: small
threads: 1
data: {source: SOURCE, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 4}
student: {network: {mlp: [8], dropout: 0.1}, epochs: 3, seeds: 2}
variants: [hard-labels, hint]
runner: {kind: thread}
"""


def test_a_worker_without_the_files_of_the_command_trains_the_same_student(
    workspace: Workspace, new_workspace: Callable[[], Workspace], mlflow_server: Server
) -> None:
    generator, labels = np.random.default_rng(0), np.arange(300) % 3
    images = generator.random((300, 1, 6, 6), dtype=np.float32) * 0.5 + labels[:, None, None, None] * np.float32(0.1)
    source = workspace.folder / "images.npz"
    np.savez(source, images=images, labels=labels)
    (workspace.folder / "small.yaml").write_text(EXPERIMENT.replace("SOURCE", str(source)))
    done = workspace.kd("run", "small.yaml", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)

    tracking.configure()
    parent = outcome["parent_run_id"]
    experiment = Experiment.model_validate(tracking.read_json(parent, "experiment.json"))
    data = prepare_data.fn(experiment.data, None)
    plan = make_plan(experiment, data, fresh=True)
    store_data(load(data), parent)
    preparing._loaded.clear()
    source.unlink()
    job = StudentJob(
        variant=experiment.variants[1],
        step=plan.students[1],
        experiment=experiment,
        data=data,
        views=1,
        parent=tracking.start("small", "small", "comparison"),  # a run of the same comparison would be reused
        knowledge=KnowledgeReference(
            teacher_run_id=outcome["teacher"]["run_id"], taps=["middle"], views=1, folder=KNOWLEDGE
        ),
    )
    worker = new_workspace()
    environment = worker.environment | {
        "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
        "HOME": str(worker.folder),
        "PREFECT_HOME": str(worker.folder / "home-of-prefect"),
    }
    trained = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=job.model_dump_json(),
        cwd=worker.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert trained.returncode == 0, trained.stderr
    there, here = trained.stdout.split()[-1], outcome["students"][1]["run_id"]
    assert there != here
    assert contents(there) == contents(here)
    stored = [file.name for file in Path(worker.folder / "cache").rglob("*.npy")]
    assert sorted(stored) == ["logits.npy", "logits.npy", "middle.npy", "middle.npy", "pixels.npy"]
    assert not list(downloads().iterdir())  # the command reads its own files


def contents(run_id: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in tracking.artifact(run_id, REPLICAS).iterdir()}
