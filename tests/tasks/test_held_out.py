"""Outcomes of networks on the test split, and how they are stored with runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdmodels.data import load_dataset
from kdmodels.evaluation.predictions import predict
from kdmodels.experiment import Data, Network
from kdmodels.networks import Description, load_network, save_network
from tasks import tracking
from tasks.held_out import (
    HeldOut,
    candidate,
    champion_outcomes,
    keep_trained,
    student_outcomes,
    teacher_outcomes,
)
from tasks.prepare_data import load, prepare_data
from tasks.references import DataReference, StudentReference
from tasks.results import NETWORK
from tasks.tracking.models import log_model
from tests.support.networks import Rows
from tests.support.served import onnx_of

CODE = {"tests.support.networks"}


@pytest.fixture
def data(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataReference:
    """Images in which the row of their class is bright."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tracking.configure()
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 30, (60, 3, 3), dtype=np.uint8)
    images[np.arange(60), labels] += 200
    path = tmp_path / "rows.npz"
    np.savez(path, images=images, labels=np.array(["bird", "cat", "dog"])[labels])
    return prepare_data.fn(Data(source=str(path)), None)


def recorded(classes: list[str], rows: list[int], folder: Path) -> str:
    """Record the run of a network whose output for each class is the brightness of a row."""
    run_id = tracking.start("old", "kd", "student", params={"threads": 1})
    shape = {"input_shape": (1, 3, 3), "mean": [0.0], "std": [1.0]}
    description = Description.model_validate(
        {"network": Network(module="tests.support.networks:Rows"), "classes": classes, **shape}
    )
    state = description.build().state_dict() | {"network.row.weight": torch.eye(3)[rows]}
    folder.mkdir()
    save_network(folder, description, state)
    tracking.log_folder(run_id, folder, NETWORK)
    log_model(run_id, onnx_of(load_network(folder, CODE)[0], (1, 3, 3), classes), np.zeros((2, 1, 3, 3), np.float32))
    tracking.log_metrics(run_id, [("size/parameters", 1, 0), ("size/file_mb", 1, 0)])
    tracking.end(run_id, "FINISHED")
    return run_id


def row_of(run_id: str) -> StudentReference:
    """Return the run as a student of a leaderboard."""
    return StudentReference(
        variant="x", run_id=run_id, status="FINISHED", reused=False, seeds=[0], metrics={}, per_seed={}, parameters=1
    )


def held_out(data: DataReference, student: StudentReference, record: bool = True) -> HeldOut:
    """Return the test split as the promotion reads it."""
    return HeldOut(data, str(student.run_id), CODE, record)


@pytest.mark.parametrize(("classes", "rows", "accuracy"), [
    (["bird", "cat", "dog"], [0, 1, 2], 1.0),
    (["dog", "bird", "cat"], [2, 0, 1], 1.0),  # the same network with its classes in another order
    (["cat", "dog"], [1, 2], 2 / 3),  # trained before the data had birds
    (["ant", "cat", "dog"], [0, 1, 2], 2 / 3),  # the data no longer have ants
])  # fmt: skip
def test_a_champions_classes_are_matched_by_name(
    data: DataReference, tmp_path: Path, classes: list[str], rows: list[int], accuracy: float
) -> None:
    student = row_of(recorded(classes, rows, tmp_path / "made"))
    test = held_out(data, student)
    outcomes = student_outcomes(student, test)
    judged = candidate("x", student, outcomes, test, np.ones(12, dtype=bool))
    assert judged.correct.mean() == pytest.approx(accuracy)
    assert judged.classes == tuple(classes)
    metrics = tracking.get(str(student.run_id)).metrics
    assert metrics["test/accuracy"] == pytest.approx(accuracy)
    assert metrics["test/macro_accuracy"] == pytest.approx(accuracy)


def test_outcomes_are_measured_once_for_each_test_split(data: DataReference, tmp_path: Path) -> None:
    student = row_of(recorded(["bird", "cat", "dog"], [0, 1, 2], tmp_path / "made"))
    first = student_outcomes(student, held_out(data, student))
    again = student_outcomes(student, held_out(data, student))
    assert tracking.get(str(student.run_id)).tags["kd.test_reads"] == "1"
    for name, values in vars(first).items():
        np.testing.assert_array_equal(values, vars(again)[name])
    images = load(data).train.images.numpy()
    path = tmp_path / "other.npz"
    labels = np.array(data.classes)[load(data).train.labels.numpy()]
    np.savez(path, images=(images[:, 0, :, :] * 255).astype(np.uint8), labels=labels)
    other = prepare_data.fn(Data(source=str(path)), None)
    assert len(student_outcomes(student, held_out(other, student)).labels) == other.examples["test"]
    assert tracking.get(str(student.run_id)).tags["kd.test_reads"] == "2"


def test_a_dry_run_keeps_no_outcomes(data: DataReference, tmp_path: Path) -> None:
    student = row_of(recorded(["bird", "cat", "dog"], [0, 1, 2], tmp_path / "made"))
    student_outcomes(student, held_out(data, student, record=False))
    assert "test/accuracy" not in tracking.get(str(student.run_id)).metrics
    student_outcomes(student, held_out(data, student))
    assert tracking.get(str(student.run_id)).tags["kd.test_reads"] == "2"


def test_the_champion_is_measured_with_the_served_file_even_if_its_code_changed(
    data: DataReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = recorded(["bird", "cat", "dog"], [0, 1, 2], tmp_path / "made")
    network, _ = load_network(tracking.artifact(run_id, NETWORK), CODE)
    champion = tracking.set_champion(tracking.register("rows", run_id, tags={}, description=""))
    monkeypatch.setattr(Rows, "forward", lambda self, images: -self.row(images.mean(dim=3).squeeze(1)))
    assert predict(network, load(data).read_test()).argmax(dim=1).ne(load(data).read_test().labels).all()
    outcomes = champion_outcomes(champion, held_out(data, row_of(run_id)))
    np.testing.assert_array_equal(outcomes.predicted, outcomes.labels)
    assert outcomes.seen is None  # the run does not say what it was trained on


def test_challenger_and_teacher_are_measured_with_stored_files_even_if_their_code_changed(
    data: DataReference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a former version, an edit of the user's class after training changed what the gate measured."""
    run_id = recorded(["bird", "cat", "dog"], [0, 1, 2], tmp_path / "made")
    monkeypatch.setattr(Rows, "forward", lambda self, images: -self.row(images.mean(dim=3).squeeze(1)))
    student = row_of(run_id)
    test = HeldOut(data, run_id, (), False)  # no code may run
    for outcomes in (student_outcomes(student, test), teacher_outcomes(run_id, test)):
        np.testing.assert_array_equal(outcomes.predicted, outcomes.labels)


def test_a_champions_training_images_are_recognised_in_a_later_test_split(data: DataReference, tmp_path: Path) -> None:
    """All images of the first data become the test split of other data, each 1 grey level brighter."""
    run_id = recorded(["bird", "cat", "dog"], [0, 1, 2], tmp_path / "made")
    champion = tracking.set_champion(tracking.register("rows", run_id, tags={}, description=""))
    keep_trained(run_id, held_out(data, row_of(run_id)))
    path = tmp_path / "rows.npz"
    with np.load(path) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    fresh = np.random.default_rng(1).integers(0, 30, (60, 3, 3), dtype=np.uint8)
    fresh[np.arange(60), np.arange(60) % 3] += 200
    np.savez(tmp_path / "mixed.npz", images=fresh, labels=labels, test_images=images + 1, test_labels=labels)
    mixed = prepare_data.fn(Data(source=str(tmp_path / "mixed.npz")), None)
    first = load_dataset(Data(source=str(path)))
    trained = np.isin(np.arange(60), [*first.indices["train"], *first.indices["validation"]])
    seen = champion_outcomes(champion, held_out(mixed, row_of(run_id))).seen
    np.testing.assert_array_equal(seen, trained)
