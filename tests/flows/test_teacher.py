"""`kd teacher` through its flow: one version per teacher, which other experiments use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.distill import distill, plan_only
from flows.teacher import teacher
from kdmodels.data import Split, load_dataset
from kdmodels.experiment import Data, Experiment
from tasks import tracking
from tasks.export_model import export, find
from tasks.queries import spec
from tasks.references import Options, Plan
from tasks.register_teacher import TeacherVersion
from tests.conftest import SMALL


def register(model: str = "big", **changes: Any) -> TeacherVersion:
    return teacher(Experiment.model_validate(SMALL | {"name": "giver"} | changes), Options(), model)


@pytest.fixture(scope="module")
def first(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[TeacherVersion]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("teacher")))
        yield register()


def test_only_the_teacher_is_trained_and_registered(first: TeacherVersion) -> None:
    (run,) = tracking.runs()
    assert (run.run_id, run.kind, run.parent, run.status) == (first.run_id, "teacher", None, "FINISHED")
    assert (first.version, first.reused, first.metrics["val/accuracy"] > 0.5) == (1, False, True)
    champion = tracking.champion("big")
    assert champion is not None
    assert (champion.version, champion.run_id, champion.tags["kd.kind"]) == (1, first.run_id, "teacher")
    assert not [tag for tag in run.tags if "test" in tag]


def test_the_same_teacher_is_reused_and_has_one_version(first: TeacherVersion) -> None:
    again = register()
    assert (again.run_id, again.version, again.reused) == (first.run_id, 1, True)
    assert len(tracking.versions("big")) == 1


def test_students_learn_from_the_registered_teacher_and_a_comparison_reuses_a_trained_one(
    first: TeacherVersion,
) -> None:
    outcome = distill(Experiment.model_validate(SMALL | {"name": "taker", "teacher": {"registry": "big"}}))
    assert outcome.teacher.metrics["val/accuracy"] == first.metrics["val/accuracy"]
    assert [student.status for student in outcome.students] == ["FINISHED"] * 2
    compared = distill(Experiment.model_validate(SMALL | {"name": "giver", "variants": ["hard-labels"]}))
    assert compared.teacher.run_id == first.run_id


def planned(registry: str, **data: Any) -> Plan:
    changes = {"name": "taker", "teacher": {"registry": registry}, "variants": ["hard-labels"]}
    return plan_only(Experiment.model_validate(SMALL | changes | {"data": {"source": "digits"} | data}), Options())


def images(split: Split) -> list[bytes]:
    return [image.tobytes() for image in split.images.numpy()]


@pytest.mark.parametrize("data", [{"validation": 0.4}, {"folds": 3}], ids=["validation", "folds"])
def test_held_out_images_of_the_students_that_the_registered_teacher_was_trained_on_are_counted(
    first: TeacherVersion, data: dict[str, Any]
) -> None:
    """The splits depend on the content only, so a larger validation split holds training images of the teacher."""
    trained = set(images(load_dataset(Data.model_validate(SMALL["data"])).train))
    students = Data.model_validate({"source": "digits"} | data)
    splits = [load_dataset(students, fold=fold).validation for fold in range(students.folds or 1)]
    held_out = [image for split in splits for image in images(split)]
    count = sum(image in trained for image in held_out)
    assert 0 < count < len(held_out)
    (warning,) = [each for each in planned("big", **data).warnings if "teacher" in each]
    assert warning == (
        f"teacher.registry: big was trained on {count} of the {len(held_out)} validation images of the students. The "
        "validation accuracies of the teacher and of distilled students may be too high. Use a teacher whose training "
        "data hold out these images"
    )


def test_a_registered_teacher_that_was_trained_on_the_same_split_needs_no_warning(first: TeacherVersion) -> None:
    plan = planned("big", validation=0.2)
    assert [text for text in (*plan.notes, *plan.warnings) if "teacher" in text] == []


def test_a_note_says_that_the_training_images_of_a_checkpoint_are_not_known(first: TeacherVersion) -> None:
    (file,) = tracking.artifact(first.run_id, "network").glob("*.safetensors")
    register("loaded", teacher={"network": SMALL["teacher"]["network"], "checkpoint": str(file)})
    plan = planned("loaded", validation=0.2)
    assert [text for text in (*plan.notes, *plan.warnings) if "teacher" in text] == [
        "teacher.registry: loaded may have been trained on the validation examples: its run does not record its "
        "training images"
    ]


def test_another_teacher_is_the_next_version_and_the_champion(first: TeacherVersion) -> None:
    longer = register(teacher=SMALL["teacher"] | {"epochs": 5})
    assert [version.aliases for version in tracking.versions("big")] == [("champion",), ("previous",)]
    assert (longer.version, longer.reused) == (2, False)


def test_a_registered_teacher_can_be_exported_and_its_file_shown(first: TeacherVersion, tmp_path: Path) -> None:
    own = SMALL["teacher"] | {"data": {"subset": 400}, "size": 12}
    version = register("own-data", data=SMALL["data"] | {"subset": 200}, teacher=own)
    run, name = find("own-data")
    assert (run.run_id, name) == (version.run_id, "own-data-1")
    report = export(run, "onnx", tmp_path / "teacher.onnx")
    assert report.accuracy == pytest.approx(version.metrics["val/accuracy"])
    assert "subset: 400" in spec(version.run_id)
