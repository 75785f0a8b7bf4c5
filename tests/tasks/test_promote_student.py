"""The gate if the data have changed since the champion was trained: classes, test images, copies of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.distill import Outcome, distill
from flows.promote import promote
from kdmodels.data import load_dataset
from kdmodels.experiment import Data, Experiment
from tasks import tracking
from tests.conftest import SMALL

Run = Callable[..., Outcome]
EXPERIMENT = SMALL | {
    "teacher": {"network": {"mlp": [16]}, "epochs": 1},
    "student": {"network": {"mlp": [8]}, "epochs": 25, "seeds": 1},
    "variants": ["hard-labels"],
}
WORSE = EXPERIMENT["student"] | {"epochs": 2}


@pytest.fixture
def run(new_store: Callable[[Path], str], tmp_path: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the small experiment on a data source, in a store for this test only."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))

    def run(source: Path, **changes: Any) -> Outcome:
        fields = EXPERIMENT | {"data": {"source": str(source), "validation": 0.2}} | changes
        return distill(Experiment.model_validate(fields))

    return run


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 8, 8) uint8, and their labels."""
    train = load_dataset(Data(source="digits")).train
    return (train.images[:, 0].numpy() * 255).astype(np.uint8), train.labels.numpy()


def folder_of(folder: Path, digits: tuple[np.ndarray, np.ndarray], names: list[str]) -> Path:
    """Write a folder of PNG files by class. The first class holds the zeros."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(digits[0][digits[1] == label]):
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def test_a_champion_is_not_replaced_by_a_worse_model_because_a_class_was_renamed(
    run: Run, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = folder_of(tmp_path / "photos", digits, ["ant", "bee", "cat"])
    assert run(folder).verdict.promoted
    (folder / "cat").rename(folder / "tomcat")
    outcome = run(folder, student=WORSE)
    verdict = outcome.verdict
    assert not verdict.promoted
    assert verdict.reason.startswith(
        "hard-labels does not replace the champion, version 1: the champion knows classes that the data do not have "
        "('cat'), and the data have classes that it does not know ('tomcat')."
    )
    assert verdict.evidence["look"] is None  # no comparison took place
    forced = promote(outcome.parent_run_id, force="renamed")
    assert (forced.promoted, forced.version) == (True, 2)


def test_a_champion_that_lacks_a_new_class_is_compared_on_its_own_classes(
    run: Run, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    folder = folder_of(tmp_path / "photos", digits, ["ant", "bee", "cat"])
    assert run(folder).verdict.promoted
    folder_of(tmp_path / "more", digits, ["-", "-0", "-1", "dog"])
    (tmp_path / "more" / "dog").rename(folder / "dog")
    worse = run(folder, student=WORSE, promote={"margin": 0.2}).verdict
    assert (worse.promoted, worse.evidence["vs_champion"]["difference"] < 0) == (False, True)
    better = run(folder, promote={"margin": 0.2}).verdict
    assert better.promoted
    assert "it knows more classes ('dog', left out of the comparison) and not worse by more than" in better.reason
    assert better.evidence["vs_champion"]["n"] < better.evidence["n"]


def mixed_again(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> tuple[Path, Path, int]:
    """Return a pool, the same pool one grey level brighter, and the number of shared training and test images."""
    moved = [np.roll(digits[0], shift, axis=(1, 2)) for shift in ((0, 0), (0, 1), (1, 0))]
    images, labels = np.concatenate(moved), np.tile(digits[1], 3)
    paths = [tmp_path / "pool.npz", tmp_path / "brighter.npz"]
    for path, shown in zip(paths, (images, np.where(images < 255, images + 1, images)), strict=True):
        np.savez(path, images=shown, labels=labels)
    learnt, held_out = (
        {*data.indices["train"], *data.indices["validation"]}
        for data in (load_dataset(Data(source=str(path), validation=0.2)) for path in paths)
    )
    return *paths, len(learnt - held_out)


def test_test_images_that_the_champion_was_trained_on_are_left_out(
    run: Run, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """The pool was saved again, so its images are split again. Most new test images were training images."""
    pool, brighter, copies = mixed_again(tmp_path, digits)
    assert run(pool).verdict.promoted
    verdict = run(brighter, student=WORSE).verdict
    tests = load_dataset(Data(source=str(brighter), validation=0.2)).test_examples
    assert 0.5 * tests < copies < tests
    assert verdict.evidence["test"]["copies"] == copies
    assert verdict.evidence["vs_champion"]["n"] == tests - copies
    assert (
        f"{copies} of {tests} test images were left out: they are copies of images that hard-labels or "
        "the champion, version 1 was trained or validated on."
    ) in verdict.reason


def test_a_test_split_that_is_mostly_copies_cannot_decide(
    run: Run, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    np.savez(tmp_path / "pool.npz", images=images[:400], labels=labels[:400])
    assert run(tmp_path / "pool.npz").verdict.promoted
    np.savez(
        tmp_path / "other.npz",
        images=images[400:],
        labels=labels[400:],
        test_images=images[:400],
        test_labels=labels[:400],
    )
    outcome = run(tmp_path / "other.npz", student=WORSE)
    assert not outcome.verdict.promoted
    assert (
        "320 of 400 test images are copies of images that hard-labels or the champion, version 1 was trained or "
        "validated on, and the other 80 are too few."
    ) in outcome.verdict.reason
    assert outcome.verdict.evidence["test"]["copies"] == 320


def test_unknown_training_images_of_the_champion_are_reported(
    run: Run, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    pool, brighter, _ = mixed_again(tmp_path, digits)
    first = run(pool)
    run_id = first.students[0].run_id
    assert run_id is not None
    tracking.artifact(run_id, "trained_on.safetensors").unlink()
    assert "It is not known" not in run(pool, student=WORSE).verdict.reason  # the same data as the challenger
    verdict = run(brighter, student=WORSE).verdict
    assert "It is not known whether the champion, version 1 was trained on some of the test images." in verdict.reason
    assert verdict.evidence["test"]["copies"] == 0


def test_a_class_of_the_data_without_test_images_does_not_meet_class_accuracy(
    run: Run, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    folder_of(tmp_path / "photos" / "train", (images[:-300], labels[:-300]), ["ant", "bee"])
    folder_of(tmp_path / "photos" / "test", (images[-300:], labels[-300:]), ["ant"])
    verdict = run(tmp_path / "photos", promote={"require": {"class_accuracy": ">= 0.1"}}).verdict
    assert not verdict.promoted
    assert (
        "hard-labels is refused: no test example of class 'bee', but class_accuracy >= 0.1 is required of every class"
        in verdict.reason
    )
