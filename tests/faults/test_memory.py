"""A student for which there is not enough memory: it fails, and the others go on."""

import json

import pytest

from tests.faults.conftest import EXPERIMENT, Place

NETS = """
import torch

class Huge(torch.nn.Sequential):
    def __init__(self, classes):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, classes))

    def forward(self, images):
        if self.training and len(images) > 2:  # not when the plan tries it
            torch.empty(2**45)
        return super().forward(images)
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
