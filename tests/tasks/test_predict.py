"""Predictions of a registered model for image files, compared with the arrays in the files."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from kdmodels.errors import UserError
from tasks import tracking
from tasks.predict import Prediction, SubmissionLine, as_submission, predict, write_csv
from tasks.tracking.models import log_model
from tasks.tracking.served import load_model
from tests.support.served import onnx_of

COUNT = 300  # more than a batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the first digits as 8x8 grey PNG files, and return their folder."""
    path = tmp_path_factory.mktemp("digits")
    for index, image in enumerate(load_digits().images[:COUNT]):
        Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).save(path / f"{index:04}.png")
    return path


def test_files_are_classified_like_their_arrays(recorded, folder: Path) -> None:
    digits = load_digits()
    arrays = (digits.images[:COUNT, None] / 16).astype(np.float32)
    logits = load_model("models:/small-student/1")(arrays)
    direct, labels = logits.argmax(axis=1), digits.target[:COUNT]
    rows = predict("small-student", [folder]).rows
    assert [row.file for row in rows] == [str(folder / f"{index:04}.png") for index in range(COUNT)]
    predicted = np.array([int(row.name) for row in rows])
    assert (direct == labels).mean() > 0.8
    assert (predicted == labels).mean() == pytest.approx((direct == labels).mean(), abs=0.01)
    expected = torch.softmax(torch.from_numpy(logits), dim=1).amax(dim=1).numpy()
    assert np.array([row.probability for row in rows]) == pytest.approx(expected, abs=0.02)  # 8 bits against 16 steps


WITHOUT_TORCH = """
import sys
from kd import main as cli

code = cli.main()
assert "torch" not in sys.modules
sys.exit(code)
"""


def test_prediction_does_not_import_torch(recorded, folder: Path) -> None:
    """The import takes seconds, and onnxruntime does not need torch."""
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict", "small-student", str(folder)]
    completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert len(completed.stdout.splitlines()) == COUNT + 1


def test_a_submission_has_ids_and_class_indices_in_order(recorded, folder: Path, tmp_path: Path) -> None:
    rows = predict("small-student", [folder]).rows
    write_csv(as_submission(rows), tmp_path / "submission.csv")
    header, *lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert header == "Id,Category"
    # The digits' classes are their names, in order.
    assert lines == [f"{index:04},{row.name}" for index, row in enumerate(rows)]


def test_two_files_with_the_same_id_are_a_clear_error() -> None:
    rows = [Prediction(file=f"{name}/0001.jpg", name="owl", index=3, probability=1.0) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"a/0001\.jpg and b/0001\.jpg would both be Id 0001"):
        as_submission(rows)


def test_images_are_converted_to_the_colours_and_size_of_the_model(recorded, folder: Path, tmp_path: Path) -> None:
    (grey,) = predict("models:/small-student/1", [folder / "0000.png"]).rows
    big = tmp_path / "big.jpg"
    with Image.open(folder / "0000.png") as image:
        image.convert("RGB").resize((80, 80), Image.Resampling.NEAREST).save(big, quality=100)
    (colour,) = predict("small-student@champion", [big]).rows
    assert (colour.file, colour.name) == (str(big), grey.name)
    assert colour.probability == pytest.approx(grey.probability, abs=0.1)


def test_hidden_files_in_a_folder_are_skipped(recorded, folder: Path, tmp_path: Path) -> None:
    """A Mac's zip adds hidden files. Training skipped them, but prediction once failed on them."""
    (tmp_path / "0000.png").write_bytes((folder / "0000.png").read_bytes())
    (tmp_path / "__MACOSX").mkdir()
    for name in ("__MACOSX/._0000.png", "._0000.png"):
        (tmp_path / name).write_bytes(b"no image")
    assert len(predict("small-student", [tmp_path]).rows) == 1


def test_the_most_probable_classes_are_sorted_and_all_add_up_to_1(recorded, folder: Path) -> None:
    files = [folder / f"{index:04}.png" for index in range(20)]
    best = predict("small-student", files).rows
    rows = predict("small-student", files, top=3).rows
    assert [row.file for row in rows] == [str(file) for file in files for _ in range(3)]
    assert rows[::3] == best
    assert all(rows[at].probability >= rows[at + 1].probability >= rows[at + 2].probability for at in range(0, 60, 3))
    (image, *_) = files
    every = predict("small-student", [image], top=99).rows
    assert sorted(row.index for row in every) == list(range(10))
    assert sum(row.probability for row in every) == pytest.approx(1, abs=1e-6)


def test_unreadable_files_are_skipped_on_request(recorded, folder: Path, tmp_path: Path) -> None:
    for name in ("0000.png", "0001.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    broken = tmp_path / "00005.png"
    broken.write_text("no image")
    with pytest.raises(UserError, match=r"00005\.png \(is not an image.*\. --skip leaves these files out$"):
        predict("small-student", [tmp_path])
    reports: list[tuple[int, int]] = []
    predictions = predict("small-student", [tmp_path], skip=True, report=lambda *counts: reports.append(counts))
    assert reports == [(3, 3)]
    assert predictions.rows == predict("small-student", [tmp_path / "0000.png", tmp_path / "0001.png"]).rows
    assert {file: str(error) for file, error in predictions.skipped.items()} == {
        broken: "is not an image in a known format"
    }
    with pytest.raises(UserError, match="files can't be read as images"):
        predict("small-student", [broken], skip=True)


def test_each_mistake_is_one_line(recorded, folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    (tmp_path / "empty").mkdir()
    image = folder / "0000.png"
    for model, path, line in [
        ("small-studen", image, "Did you mean 'small-student'?"),
        ("small-student/9", image, "has no version 9"),
        ("small-student", tmp_path / "absent.png", "absent.png: no such file or folder"),
        ("small-student", tmp_path / "empty", "empty: the folder contains no image"),
        ("small-student", text, f"files can't be read as images: {text}"),
    ]:
        with pytest.raises(UserError) as raised:
            predict(model, [path])
        assert line in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_model_that_names_no_classes_is_refused(
    new_store: Callable[[Path], str], tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    tracking.configure()
    run = tracking.start("foreign", "foreign", "student")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    log_model(run, onnx_of(network, (1, 8, 8)), np.zeros((2, 1, 8, 8), dtype=np.float32))
    tracking.set_champion(tracking.register("foreign", run, tags={}, description=""))
    with pytest.raises(UserError, match=r"^model 'foreign' names no classes; allowed: a model of a kd run$"):
        predict("foreign", [folder])


ROWS = [
    Prediction(file="a,b.png", name="7", index=7, probability=0.5),
    Prediction(file="c.png", name="snow owl", index=2, probability=1.0),
]
TEXT = 'file,class,index,probability\n"a,b.png",7,7,0.5\nc.png,snow owl,2,1.0\n'


def test_csv_goes_to_a_file_or_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.csv"
    target.write_text("earlier")
    write_csv(ROWS, target)
    assert target.read_text() == TEXT
    write_csv(ROWS)
    assert capsys.readouterr().out == TEXT


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "a\\x1b[2J"), (False, "a\x1b[2J")])
def test_names_are_escaped_on_a_terminal_only(
    is_terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model chooses the names of classes, and a stranger may choose the names of files."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    write_csv([Prediction(file="a\x1b[2J", name="a\x1b[2J", index=0, probability=1.0)])
    assert capsys.readouterr().out == f"file,class,index,probability\n{shown},{shown},0,1.0\n"


def test_csv_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("earlier")
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_csv([*ROWS, SubmissionLine(id="1", category=1)], target)
    assert target.read_text() == "earlier"
    with pytest.raises(UserError, match=r"absent/out.csv: can't be written: No such file or directory"):
        write_csv(ROWS, tmp_path / "absent" / "out.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: can't be written: Is a directory"):
        write_csv(ROWS, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.csv"]


def test_a_device_is_written_to_and_a_link_is_replaced(tmp_path: Path) -> None:
    """`-o /dev/full` once replaced the device by a regular file, and a link was followed."""
    rows = [Prediction(file="a.png", name="3", index=3, probability=0.5)]
    pipe, real, link = tmp_path / "pipe", tmp_path / "real.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_csv(rows, pipe)
    assert b"a.png,3,3" in os.read(reader, 1000)
    os.close(reader)
    assert pipe.is_fifo()
    real.write_text("old")
    link.symlink_to(real)
    write_csv(rows, link)
    assert not link.is_symlink()
    assert "a.png" in link.read_text()
    assert real.read_text() == "old"
    with pytest.raises(UserError, match="/dev/full: can't be written: No space left on device"):
        write_csv(rows, Path("/dev/full"))
    with pytest.raises(UserError, match=r"real\.csv/x\.csv: can't be written"):
        write_csv(rows, real / "x.csv")
