"""The user's own data in every supported form, from the files to a champion."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flows.distill import Options, Outcome, distill, plan_only
from kd.plan import print_plan
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.predict import predict
from tests.conftest import SMALL

COUNT, CLASSES = 20, ("0", "1", "2")
EXPERIMENT = SMALL | {
    "name": "photos",
    "teacher": {"network": {"mlp": [16]}, "epochs": 3},
    "student": {"network": {"mlp": [8]}, "epochs": 3, "seeds": 2, "optimizer": {"adam": {"lr": 0.01}}},
    "variants": ["kd"],
}
FUNCTION = """
import numpy as np
def load():
    return dict(np.load("{path}"))
"""


def experiment(source: Path | str, **data: Any) -> Experiment:
    return Experiment.model_validate(EXPERIMENT | {"data": {"source": str(source), **data}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write colour photos of 8x8 pixels in 3 classes, which differ in the bright third, and a file that is no image."""
    root = tmp_path_factory.mktemp("own") / "photos"
    generator = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = generator.integers(0, 100, (8, 8, 3), dtype=np.uint8)
            pixels[:, 3 * label : 3 * label + 2] += 150
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    (root / "readme.txt").write_text("about")
    return root


@pytest.fixture(scope="module")
def first(new_store: Callable[[Path], str], folder: Path, prefect_server: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(folder.parent / "mlruns"))
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        yield distill(experiment(folder))


def test_a_folder_of_photos_leads_to_a_champion_with_its_classes(first: Outcome, folder: Path) -> None:
    assert first.verdict.promoted
    predictions = predict("photos-student", [folder / "0", folder / "2"]).rows
    correct = [prediction.name == Path(prediction.file).parent.name for prediction in predictions]
    assert sum(correct) > 0.9 * len(correct) == 0.9 * 2 * COUNT


def test_notes_about_the_data_are_shown_and_recorded(
    first: Outcome, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "1 files are not images and are left out: readme.txt"
    plan = plan_only(experiment(folder))
    assert plan.notes == [note]
    print_plan(plan)
    assert capsys.readouterr().out.splitlines()[-1] == f"data      {note}"
    assert tracking.artifact(first.parent_run_id, "notes.txt").read_text() == note
    assert tracking.artifact(first.parent_run_id, "skipped.txt").read_text() == ""


@pytest.mark.parametrize("form", ["moved", "zip", "npz", "parquet", "function"])
def test_the_same_images_in_another_form_are_reused(first: Outcome, folder: Path, form: str) -> None:
    files = sorted(folder.glob("*/*.png"))
    images, labels = np.stack([np.asarray(Image.open(file)) for file in files]), np.repeat(np.arange(3), COUNT)
    source: Path | str = folder.parent / f"{form}.{form}"
    if form == "moved":
        shutil.copytree(folder, source)
    elif form == "zip":
        shutil.make_archive(str(folder.parent / "zip"), "zip", folder.parent, "photos")
    elif form == "parquet":
        content = [file.read_bytes() for file in files]
        pd.DataFrame({"image": content, "label": [file.parent.name for file in files]}).to_parquet(source)
    else:
        np.savez(folder.parent / "npz.npz", images=images, labels=labels)
    if form == "function":
        (folder.parent / "own.py").write_text(FUNCTION.format(path=folder.parent / "npz.npz"))
        source = f"{folder.parent}/own.py:load"
    plan = plan_only(experiment(source))
    assert {step.action for step in (plan.teacher, *plan.students)} == {"reuse"}


def test_an_added_photo_makes_other_data(first: Outcome, folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "more")
    shutil.copy(folder / "0" / "00.png", folder.parent / "more" / "0" / "again.png")
    plan = plan_only(experiment(folder.parent / "more"))
    assert plan.teacher.reason == "the data changed"


def test_unreadable_photos_stop_a_run_or_are_recorded(first: Outcome, folder: Path) -> None:
    damaged = folder.parent / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "1" / "05.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"1 images can't be read: 1/05\.png \(is not an image in a known format\)"):
        distill(experiment(damaged))
    outcome = distill(experiment(damaged, skip=True), Options(quiet=True))
    skipped = tracking.artifact(outcome.parent_run_id, "skipped.txt").read_text()
    assert skipped == "1/05.png (is not an image in a known format)"
    assert "1 unreadable images are left out" in tracking.artifact(outcome.parent_run_id, "notes.txt").read_text()


def test_unlabelled_images_change_only_distilled_students(first: Outcome, folder: Path) -> None:
    more = folder.parent / "unlabelled"
    more.mkdir()
    for number, file in enumerate(sorted(folder.glob("*/*.png"))[::3]):
        Image.fromarray(255 - np.asarray(Image.open(file))).save(more / f"{number:02}.png")
    outcome = distill(experiment(folder, transfer={"unlabelled": str(more)}))
    assert [(student.variant, student.control, student.status) for student in outcome.students] == [
        ("hard-labels", "hard-labels", "FINISHED"),
        ("hard-labels-equal-steps", "hard-labels-equal-steps", "FINISHED"),
        ("kd", "hard-labels-equal-steps", "FINISHED"),
    ]
    before, after = (
        {
            student.variant: tracking.read_json(str(student.run_id), "replicas/replicas.json")
            for student in each.students
        }
        for each in (first, outcome)
    )
    assert before["hard-labels"] == after["hard-labels"]
    assert before["kd"] != after["kd"]
    assert after["hard-labels-equal-steps"] != after["hard-labels"]
    plan = plan_only(experiment(folder, transfer={"unlabelled": str(more)}))
    assert {step.action for step in plan.steps} == {"reuse"}
    params = {step.name: step.params for step in plan.students}
    images = len(list(folder.glob("*/*.png")))
    held_out = images // 5 + math.ceil((images - images // 5) / 10)  # test and validation images
    # Its number of steps depends on the unlabelled images, whose digest is that of distilled students.
    repeated = {
        "equal_steps": images - held_out + len(list(more.glob("*.png"))),
        "data.digest": params["kd"]["data.digest"],
    }
    assert params["hard-labels-equal-steps"] == params["hard-labels"] | repeated
