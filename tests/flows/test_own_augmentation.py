"""Experiments with an augmentation of the user's own, from the file to the students."""

import json
from pathlib import Path

import pytest

from kd.exit_codes import DONE
from tasks import tracking
from tests.conftest import SMALL, Here

pytestmark = pytest.mark.usefixtures("prefect_server")
MINE = """\
import torch


def darken(image, generator, *, strength: float = 0.5):
    return image * (1 - strength * torch.rand((), generator=generator))
"""
EXPERIMENT = SMALL | {
    "name": "augmented",
    "teacher": {"network": {"mlp": [16]}, "epochs": 2},
    "student": {
        "network": {"mlp": [8]},
        "epochs": 2,
        "seeds": 1,
        "augment": [{"e2e_augment:darken": {"strength": 0.3}}],
    },
    "knowledge": {"views": 2},
}


def test_changed_code_computes_the_teachers_outputs_for_the_new_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kd_here: Here
) -> None:
    monkeypatch.chdir(tmp_path)
    module, file = tmp_path / "e2e_augment.py", tmp_path / "augmented.yaml"
    file.write_text(json.dumps(EXPERIMENT))
    folders = []
    for code in (MINE, MINE + "# changed\n"):
        module.write_text(code)
        exit_code, out, error = kd_here("run", str(file), "--quiet", "--json")
        assert exit_code == DONE, error
        outcome = json.loads(out)
        folders.append(set(json.loads(tracking.get(outcome["teacher"]["run_id"]).tags["kd.knowledge"])))
        assert not any(student["reused"] for student in outcome["students"])
    assert outcome["teacher"]["reused"]
    assert len(folders[0]) == 1
    assert len(folders[1]) == 2
