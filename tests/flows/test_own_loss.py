"""Experiments with losses of the user's own, from the file to the verdict."""

import json
import sys
from pathlib import Path

import pytest

from kd import main as cli
from tasks import tracking
from tests.conftest import SMALL, Here

pytestmark = pytest.mark.usefixtures("prefect_server")
MINE = """\
import torch
from torch import nn


def absolute(student_logits, teacher_logits, *, scale: float = 1.0):
    return scale * (student_logits - teacher_logits).abs().mean(1)


class Regressed(nn.Module):
    def __init__(self, student_shape, teacher_shape, *, sharpness: int = 2):
        super().__init__()
        self.map, self.sharpness = nn.Linear(student_shape[0], teacher_shape[0]), sharpness

    def forward(self, student_features, teacher_features):
        return (self.map(student_features) - teacher_features).abs().pow(self.sharpness).mean(1)
"""
EXPERIMENT = SMALL | {
    "name": "mine",
    "teacher": {"network": {"mlp": [16]}, "epochs": 2},
    "student": {"network": {"mlp": [8]}, "epochs": 2, "seeds": 2},
    "variants": [
        {"name": "absolute", "terms": ["hard_labels", {"e2e_losses:absolute": {"weight": "auto", "scale": 2}}]},
        {"name": "regressed", "terms": ["hard_labels", {"e2e_losses:Regressed": {"weight": 0.5, "at": "last"}}]},
    ],
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e2e_losses.py").write_text(MINE)
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(EXPERIMENT))
    return file


def test_kd_run_trains_with_own_losses_and_reuses_their_runs(file: Path, kd_here: Here) -> None:
    code, out, error = kd_here("run", str(file), "--quiet", "--json")
    assert code == cli.DONE, error
    outcome = json.loads(out)
    assert [student["status"] for student in outcome["students"]] == ["FINISHED"] * 3
    _, absolute, regressed = (tracking.get(student["run_id"]) for student in outcome["students"])
    assert absolute.metrics["train/e2e_losses:absolute"] > 0
    assert float(absolute.params["calibrated.e2e_losses:absolute"]) > 0
    assert regressed.params["terms.1.hyperparameters.sharpness"] == "2"
    assert {"source.e2e_losses", "terms.1.inputs"} <= absolute.params.keys()
    (file.parent / "e2e_losses.py").write_text(MINE.replace("* (student", "* (3 * student"))
    _, again, _ = kd_here("run", str(file), "--quiet", "--json", "--dry-run")
    actions = {step["name"]: (step["action"], step["reason"]) for step in json.loads(again)["students"]}
    assert actions["hard-labels"][0] == "reuse"
    assert actions["absolute"] == actions["regressed"] == ("train", "e2e_losses changed")
    # Commands that read the experiment from the store neither need nor import the module that it names.
    (file.parent / "e2e_losses.py").unlink()
    sys.modules.pop("e2e_losses")
    for command in (["compare", "mine"], ["show", absolute.run_id], ["promote", absolute.run_id, "--dry-run"]):
        code, _, error = kd_here(*command)
        assert code not in (cli.ERROR, cli.USAGE), (command, error)  # the gate may refuse
    assert "e2e_losses" not in sys.modules


def test_own_losses_of_a_schedule_must_be_allowed(file: Path, kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_ALLOW_CODE", "nets")
    code, _, error = kd_here("run", str(file), "--dry-run")
    assert code == cli.USAGE
    assert "variant absolute: terms: the code of e2e_losses is not allowed in this schedule. Allowed: nets." in error
