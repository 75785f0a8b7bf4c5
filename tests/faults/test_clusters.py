"""Students on local Ray and Dask clusters: equal results, killed workers, Ctrl-C, and what is left behind."""

import json
import os
import signal
import subprocess
from collections.abc import Callable

import psutil
import pytest

from tests.faults.conftest import KD, Workspace, used
from tests.faults.test_interrupt import LONG, last_epoch, wait_for

OWN = """
import torch

class Net(torch.nn.Sequential):
    def __init__(self, classes):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, classes))

def squares(student_logits, teacher_logits):
    return (student_logits - teacher_logits).square().mean(1)
"""
OWN_EXPERIMENT = """
name: small
threads: 1
data: {source: digits, validation: 0.2}
teacher: {network: {mlp: [32]}, epochs: 4}
student: {network: "own:Net", epochs: 4, seeds: 2}
variants: [hard-labels, {name: mine, terms: [{hard_labels: 1}, {"own:squares": 1}]}]
"""
WORKER = {"ray": "ray::train_student", "dask": "multiprocessing.spawn"}  # part of the command line of a worker


def start(workspace: Workspace, kind: str) -> "subprocess.Popen[str]":
    """Start a comparison that does not end, and wait until a worker trains the first student."""
    process = workspace.start(*LONG, "--set", f"runner={{kind: {kind}, workers: 1}}", by=["setsid", *KD])
    wait_for(workspace, 5)
    return process


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_until_ended(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=200)
    assert alive == []


@pytest.mark.fault
def test_every_runner_trains_the_same_students(new_workspace: Callable[[], Workspace]) -> None:
    """The network and the loss are the user's own."""
    outcomes = {}
    for kind in ("thread", "process", "ray", "dask"):
        with used(new_workspace()) as workspace:
            (workspace.folder / "own.py").write_text(OWN)
            (workspace.folder / "small.yaml").write_text(OWN_EXPERIMENT)
            done = workspace.kd("run", "small.yaml", "--quiet", "--set", f"runner={{kind: {kind}, workers: 2}}")
            assert (done.returncode, done.stderr) == (0, "")
            outcomes[kind] = workspace.outcome()
    assert outcomes["thread"] == outcomes["process"] == outcomes["ray"] == outcomes["dask"]


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["ray", "dask"])
def test_a_student_outlives_its_worker_and_ctrl_c_ends_the_cluster(workspace: Workspace, kind: str) -> None:
    process = start(workspace, kind)
    cluster = descendants(process)
    (worker,) = [member for member in cluster if WORKER[kind] in " ".join(member.cmdline())]
    listening = {connection.laddr.ip for member in cluster for connection in member.net_connections("tcp")}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    worker.kill()
    wait_for(workspace, last_epoch(workspace) + 5)
    cluster = descendants(process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    *before, last = stderr.splitlines()
    assert last == "kd: interrupted"
    assert all("(raylet)" in line for line in before)  # Ray reports the death of its worker
    wait_until_ended(cluster)
    assert list((workspace.folder / "tmp").iterdir()) == []
    control, *_ = json.loads(workspace.kd(*LONG, "--dry-run", "--json").stdout)["students"]
    assert control["action"] == "resume"


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["ray", "dask"])
def test_a_cluster_ends_if_its_command_is_killed(workspace: Workspace, kind: str) -> None:
    process = start(workspace, kind)
    cluster = descendants(process)
    assert cluster
    process.kill()
    process.communicate()
    wait_until_ended(cluster)
