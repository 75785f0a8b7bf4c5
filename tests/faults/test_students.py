"""A student that runs out of memory, raises or diverges fails; the others continue."""

import json

import pytest

from tests.faults.conftest import EXPERIMENT, Workspace, single_error

NETS = """
import gc
import multiprocessing.queues
import os
import signal

import torch

class Huge(torch.nn.Sequential):
    def __init__(self, classes):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, classes))

    def forward(self, images):
        if self.training and len(images) > 2:  # not when the plan tries the network
            torch.empty(2**45)
        return super().forward(images)


class Broken(Huge):
    def forward(self, images):
        if self.training and len(images) > 2:
            raise ValueError("it is broken")
        return torch.nn.Sequential.forward(self, images)


class Killed(Broken):  # as if a worker were killed while it sends its result to the command
    def forward(self, images):
        if self.training and len(images) > 2 and multiprocessing.parent_process():
            gc.unfreeze()  # frozen objects are not listed
            (queue,) = [item for item in gc.get_objects() if type(item) is multiprocessing.queues.SimpleQueue]
            queue._wlock.acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.Sequential.forward(self, images)
"""


@pytest.mark.fault
def test_only_the_student_that_runs_out_of_memory_fails(workspace: Workspace) -> None:
    (workspace.folder / "nets.py").write_text(NETS)
    huge = '{name: huge, terms: kd, student: {network: "nets:Huge", epochs: 2}}'
    (workspace.folder / "small.yaml").write_text(EXPERIMENT.replace("kd]", f"kd, {huge}]"))
    done = workspace.kd("run", "small.yaml", "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    students = {student["variant"]: student for student in report["students"]}
    failed = {name: student["error"] for name, student in students.items() if student["status"] == "FAILED"}
    assert "huge" in failed
    assert set(failed) & {"hard-labels", "kd"} == set()
    assert {error.split(":")[0] for error in failed.values()} == {"out of memory; lower one of"}, failed
    assert {students[name]["status"] for name in ("hard-labels", "kd")} == {"FINISHED"}
    assert report["verdict"]["promoted"]
    assert "huge: failed: out of memory; lower one of: batch" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_only_the_students_that_raise_or_diverge_fail(workspace: Workspace, kind: str) -> None:
    (workspace.folder / "nets.py").write_text(NETS)
    broken = '{name: broken, terms: kd, student: {network: "nets:Broken", epochs: 2}}'
    wild = "{name: wild, terms: [{hard_labels: 1}, {logit_regression: 3.0e+38}]}"
    (workspace.folder / "small.yaml").write_text(EXPERIMENT.replace("kd]", f"{broken}, {wild}, kd]"))
    done = workspace.kd("run", "small.yaml", "--json", "--set", f"runner.kind={kind}")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    failed = {student["variant"]: student["error"] for student in report["students"] if student["status"] == "FAILED"}
    assert set(failed) & {"hard-labels", "kd"} == set()
    assert failed["broken"] == "ValueError: it is broken"
    first = "seed 0 in epoch 1, logit_regression first; seed 1 in epoch 1, logit_regression first"
    advice = "Lower the learning rate or a term's weight."
    assert failed["wild"] == f"diverged, the loss is not finite: {first}. {advice}"
    assert report["verdict"]["promoted"]
    assert "Traceback" not in done.stderr


@pytest.mark.fault
def test_the_command_ends_after_a_worker_is_killed_while_it_holds_a_lock(workspace: Workspace) -> None:
    """Regression: the system kills workers when memory runs out. Python then waited for a lock at exit."""
    (workspace.folder / "nets.py").write_text(NETS)
    process = workspace.start(
        "run", "small.yaml", "--quiet", "--set", "runner.kind=process", "--set", "student.network=nets:Killed"
    )
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert single_error(stderr).startswith(
        "kd: error: a process that trains students was killed, stopped or ran out of memory; "
    )
