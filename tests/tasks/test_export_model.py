"""Exports of models and runs that a real flow has recorded."""

import os
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch

from kdmodels.data import load_dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data
from tasks import tracking
from tasks.export_model import export, find, new_file
from tasks.tracking.contents import model_id
from tasks.tracking.served import read_model


def test_a_model_or_a_run_is_found_by_every_name(recorded) -> None:
    champion = tracking.find_model("small-student")
    assert champion.run_id is not None
    for word in ("small-student", "small-student@champion", f"models:/small-student/{champion.version}"):
        run, name = find(word)
        assert (run.run_id, name) == (champion.run_id, f"small-student-{champion.version}")
    winner = tracking.get(recorded.first).tags["kd.winner_run"]
    assert find(recorded.first)[0].run_id == winner
    assert find(winner[:12])[0].run_id == winner
    teacher = next(run for run in tracking.children(recorded.first) if run.kind == "teacher")
    assert find(teacher.run_id) == (teacher, "teacher")


def test_a_run_without_a_network_is_a_clear_error(recorded) -> None:
    for word, line in [
        ("small-studnt", "model 'small-studnt' is not in the registry. Did you mean 'small-student'"),
        ("broken", r"run broken \(FAILED\) holds no network"),
        (recorded.unfinished, "run small has no winner"),
    ]:
        with pytest.raises(UserError, match=line):
            find(word)


def test_the_file_must_be_new_and_have_the_right_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_file(None, "small-student-1", "int8") == Path("small-student-1.int8.onnx")
    Path("there.pt2").touch()
    Path("dangling.pt2").symlink_to("elsewhere.pt2")
    for out, kind, line in [
        ("there.pt2", "pt2", "there.pt2: exists already. Choose another file name"),
        ("dangling.pt2", "pt2", "dangling.pt2: exists already. Choose another file name"),
        ("a.onnx", "pt2", "a.onnx: the name does not fit the format. Allowed: a name that ends with .pt2"),
        ("no/a.onnx", "int8", "there is no folder no"),
    ]:
        with pytest.raises(UserError, match=line):
            new_file(Path(out), "x", kind)


def test_the_report_uses_the_validation_split_of_the_run(recorded, tmp_path: Path) -> None:
    run, _ = find(recorded.first)
    file = tmp_path / "student.onnx"
    report = export(run, "onnx", file)
    validation = load_dataset(Data(source="digits", validation=0.2)).validation
    (logits,) = onnxruntime.InferenceSession(file).run(None, {"images": validation.images.numpy()})
    right = float((logits.argmax(axis=1) == validation.labels.numpy()).mean())
    assert report.examples == len(validation)
    assert report.accuracy == report.exported_accuracy == pytest.approx(right)
    assert f'"val/accuracy": {right:.6}'[:22] in run.tags["replica"]
    assert report.agreement == 1
    assert report.largest_difference == 0
    assert file.read_bytes() == read_model(f"models:/{model_id(run.run_id)}")
    assert report.file_mb == run.metrics["size/file_mb"]
    assert report.exported_file_mb == file.stat().st_size / 1e6
    assert (report.run_id, report.format, report.file) == (run.run_id, "onnx", str(file))
    assert list(tmp_path.iterdir()) == [file]


def test_int8_is_calibrated_and_nearly_as_good(recorded, tmp_path: Path) -> None:
    report = export(find("small-student")[0], "int8", tmp_path / "a.int8.onnx")
    assert abs(report.exported_accuracy - report.accuracy) < 0.03
    assert report.agreement > 0.95
    assert report.largest_difference > 1e-4


def test_data_that_changed_since_the_training_are_refused(recorded, tmp_path: Path) -> None:
    run, _ = find(recorded.first)
    stale = replace(run, params=run.params | {"data.digest": "of files that have changed since"})
    with pytest.raises(UserError, match=f"^digits: .* holds other data than {run.name} was trained on"):
        export(stale, "pt2", tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


def test_pt2_loads_with_torch_alone(recorded, tmp_path: Path) -> None:
    report = export(find("small-student")[0], "pt2", tmp_path / "a.pt2")
    assert report.largest_difference < 1e-5
    assert torch.export.load(tmp_path / "a.pt2").module()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_a_folder_that_cannot_be_written_is_an_error_in_one_line(recorded) -> None:
    with pytest.raises(UserError, match=r"/proc/a.onnx: can't be written"):
        export(find("small-student")[0], "onnx", Path("/proc/a.onnx"))


def test_planted_links_are_not_followed(recorded, tmp_path: Path) -> None:
    """The partial file was once called `.PID.NAME`, and a link made after the check was followed."""
    victim, file = tmp_path / "victim", tmp_path / "a.onnx"
    victim.write_text("precious")
    for name in (f".{os.getpid()}.a.onnx", "a.onnx", "a.onnx.partial"):
        (tmp_path / name).symlink_to(victim)
    export(find("small-student")[0], "onnx", file)
    assert victim.read_text() == "precious"
    assert file.is_file()
    assert not file.is_symlink()


@pytest.mark.parametrize("name", ["../../..", "/etc/cron.d/x", "..", "kd 2/5"])
def test_a_run_name_cannot_lead_to_another_folder(recorded, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run, _ = find(recorded.first)
    monkeypatch.setattr(tracking, "find_model", lambda word: (_ for _ in ()).throw(UserError("no model")))
    monkeypatch.setattr(tracking, "find", lambda word: replace(run, name=name))
    file = new_file(None, find(name)[1], "onnx")
    assert file.parent == Path()
    assert len(file.parts) == 1
