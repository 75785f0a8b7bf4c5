"""A student that runs out of memory, raises or diverges: it fails, and the others go on."""

import json

import pytest

from tests.faults.conftest import EXPERIMENT, Place, one_error

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
        if self.training and len(images) > 2:  # not when the plan tries it
            torch.empty(2**45)
        return super().forward(images)


class Broken(Huge):
    def forward(self, images):
        if self.training and len(images) > 2:
            raise ValueError("it is broken")
        return torch.nn.Sequential.forward(self, images)


class Killed(Broken):  # in a worker, as if it were sending its result to the command
    def forward(self, images):
        if self.training and len(images) > 2 and multiprocessing.parent_process():
            gc.unfreeze()  # what is frozen is not among all objects
            (queue,) = [found for found in gc.get_objects() if type(found) is multiprocessing.queues.SimpleQueue]
            queue._wlock.acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.Sequential.forward(self, images)
"""


@pytest.mark.fault
def test_a_student_that_runs_out_of_memory_fails_alone(place: Place) -> None:
    (place.folder / "nets.py").write_text(NETS)
    huge = '{name: huge, terms: kd, student: {network: "nets:Huge", epochs: 2}}'
    (place.folder / "small.yaml").write_text(EXPERIMENT.replace("kd]", f"kd, {huge}]"))
    done = place.kd("run", "small.yaml", "--json")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    students = {student["variant"]: student for student in told["students"]}
    failed = {name: student["error"] for name, student in students.items() if student["status"] == "FAILED"}
    assert "huge" in failed
    assert set(failed) & {"hard-labels", "kd"} == set()
    assert {error.split(":")[0] for error in failed.values()} == {"out of memory; lower one of"}, failed
    assert {students[name]["status"] for name in ("hard-labels", "kd")} == {"FINISHED"}
    assert told["verdict"]["promoted"]
    assert "huge: failed: out of memory; lower one of: batch" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_students_that_raise_or_diverge_fail_alone(place: Place, kind: str) -> None:
    (place.folder / "nets.py").write_text(NETS)
    broken = '{name: broken, terms: kd, student: {network: "nets:Broken", epochs: 2}}'
    wild = "{name: wild, terms: [{hard_labels: 1}, {logit_regression: 3.0e+38}]}"
    (place.folder / "small.yaml").write_text(EXPERIMENT.replace("kd]", f"{broken}, {wild}, kd]"))
    done = place.kd("run", "small.yaml", "--json", "--set", f"runner.kind={kind}")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    failed = {student["variant"]: student["error"] for student in told["students"] if student["status"] == "FAILED"}
    assert set(failed) & {"hard-labels", "kd"} == set()
    assert failed["broken"] == "ValueError: it is broken"
    first = "seed 0 in epoch 1, logit_regression first; seed 1 in epoch 1, logit_regression first"
    assert failed["wild"] == f"diverged, its loss is not finite: {first}; lower its lr or a weight"
    assert told["verdict"]["promoted"]
    assert "Traceback" not in done.stderr


@pytest.mark.fault
def test_a_worker_killed_while_it_holds_a_lock_does_not_keep_the_command_from_ending(place: Place) -> None:
    """As the system does where memory runs out: of Prefect's pool Python at exit waited for that lock for ever."""
    (place.folder / "nets.py").write_text(NETS)
    process = place.start(
        "run", "small.yaml", "--quiet", "--set", "runner.kind=process", "--set", "student.network=nets:Killed"
    )
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert one_error(told).startswith(
        "kd: error: a process that trains students was killed, stopped or ran out of memory; "
    )
