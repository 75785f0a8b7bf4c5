"""prepare_data: the reference that it returns, and the progress bar that it shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdmodels.errors import UserError
from kdmodels.experiment import Data, Experiment
from tasks.prepare_data import load, prepare_data, with_teachers
from tasks.references import DataReference
from tests.conftest import SMALL


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    return Data(source=str(tmp_path / "photos"))


@pytest.mark.usefixtures("store")
def test_the_same_process_sees_a_changed_file(photos: Data) -> None:
    first = prepare_data.fn(photos, None)
    assert load(first).digest == first.digest
    Image.new("L", (4, 4)).save(Path(photos.source) / "a" / "0.png")
    second = prepare_data.fn(photos, None)
    assert second.digest != first.digest
    assert second.notes == ["modes converted to RGB: 1 L, 39 RGB"]
    with pytest.raises(UserError, match="this worker reads other data"):
        load(first)


@pytest.mark.parametrize(("terminal", "quiet", "shown"), [("1", False, True), ("1", True, False), ("0", False, False)])
def test_decoding_is_shown_only_on_a_terminal(
    photos: Data, terminal: str, quiet: bool, shown: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    prepare_data.fn(photos, None, quiet)
    captured = capsys.readouterr()
    assert ("decoding the images" in captured.err) == shown
    assert captured.out == ""
    prepare_data.fn(photos, None, quiet)
    assert capsys.readouterr().err == ""  # the second time there is nothing to decode


def references(own: object, **data: Any) -> DataReference:
    fields = {"data": SMALL["data"] | data, "teacher": SMALL["teacher"] | {"data": own}}
    experiment = Experiment.model_validate(SMALL | fields)
    reference = with_teachers(prepare_data.fn(experiment.data, None), experiment, read)
    assert experiment.teacher.data is not None
    assert reference.of(experiment.teacher).is_of(experiment.teacher.data)
    return reference


def read(data: Data) -> DataReference:
    return prepare_data.fn(data, None)


def test_a_teacher_with_more_images_sees_no_held_out_image_of_the_students() -> None:
    """The splits depend on the content only, so more training images leave the held-out images where they were."""
    students = references({"subset": None}, subset=150)
    (teacher,) = students.teachers
    assert (students.examples["train"], teacher.examples["train"] > 1_000) == (120, True)
    held_out = [image.tobytes() for split in ("validation",) for image in getattr(load(students), split).images.numpy()]
    assert not {image.tobytes() for image in load(teacher).train.images.numpy()} & set(held_out)
    assert load(students).split_digests["test"] == load(teacher).split_digests["test"]


def test_a_teacher_may_know_labels_that_the_students_do_not_have() -> None:
    students = references({"labelled": None}, labelled=100, transfer={"unlabelled": "rest"})
    (teacher,) = students.teachers
    assert (students.examples["train"], teacher.examples["train"]) == (100, students.examples["taught"])
    assert "unlabelled" not in teacher.examples
    assert load(students).split_digests == load(teacher).split_digests


def test_held_out_images_of_the_students_in_the_teachers_training_data_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^teacher\.data: the teacher would be trained on \d+ of the 288 validation"):
        references({"validation": 0.1})
    images = np.random.default_rng(0).integers(0, 256, (100, 4, 4), dtype=np.uint8)
    labels = np.arange(100) % 2
    held_out = {f"{split}_{kind}": values for split, rows in (("validation", slice(60, 80)), ("test", slice(80, 100)))
                for kind, values in (("images", images[rows]), ("labels", labels[rows]))}  # fmt: skip
    np.savez(tmp_path / "few.npz", images=images[:60], labels=labels[:60], **held_out)
    np.savez(tmp_path / "more.npz", images=images[:90], labels=labels[:90])
    students = {"source": str(tmp_path / "few.npz"), "validation": None}
    with pytest.raises(
        UserError, match=r"^teacher\.data: .* of the 20 (validation|test) images of the students\. Allowed"
    ):
        references({"source": str(tmp_path / "more.npz")}, **students)


def test_other_classes_and_other_channels_are_an_error(photos: Data, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^teacher\.data: .*photos has the classes a, b\. Allowed: those of digits, 0, "
    ):
        references({"source": photos.source})
    with pytest.raises(UserError, match=r"^teacher\.data: .* has images of 3x8x8 \(.*\)\. Allowed: 1x8x8, as digits$"):
        references({"source": digits_like(tmp_path, (200, 3, 6, 6))})


def digits_like(folder: Path, shape: tuple[int, ...]) -> str:
    """Write images (N, ...) of the ten digits to a file, and return its path."""
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    classes = np.array([str(digit) for digit in range(10)])
    np.savez(folder / "digits.npz", images=images, labels=np.arange(len(images)) % 10, classes=classes)
    return str(folder / "digits.npz")


@pytest.mark.parametrize("side", [6, 8])
def test_images_of_another_source_get_the_size_of_the_students_images(tmp_path: Path, side: int) -> None:
    source = digits_like(tmp_path, (200, side, side))
    students = references({"source": source})
    (teacher,) = students.teachers
    assert teacher.input_shape == students.input_shape == (1, 8, 8)
    resized = prepare_data.fn(Data(source=source, size=[8, 8], validation=0.2), None)
    assert (teacher.digest, load(teacher).digest) == (resized.digest, resized.digest)
    if side == 8:  # such a teacher is not trained again
        assert teacher.digest == prepare_data.fn(Data(source=source, validation=0.2), None).digest


def test_a_worker_reads_the_images_of_another_source_in_the_same_size(tmp_path: Path) -> None:
    students = references({"source": digits_like(tmp_path, (200, 6, 6))})
    sent = DataReference.model_validate_json(students.model_dump_json())
    assert load(sent.teachers[0]).input_shape == (1, 8, 8)


def test_mistakes_in_the_teachers_data_name_the_teacher() -> None:
    with pytest.raises(UserError, match=r"^teacher\.data\.subset: 5000 is out of range\. Allowed: 10 to "):
        references({"subset": 5000})
