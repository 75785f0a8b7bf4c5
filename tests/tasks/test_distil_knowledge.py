"""Knowledge is computed once per teacher, and only for variants that will be trained."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdmodels.experiment import Experiment
from kdmodels.versions import VERSIONS
from tasks import tracking
from tasks.cross_validation import Fold
from tasks.distil_knowledge import distil_knowledge, load_both
from tasks.planning.plan import make_plan
from tasks.prepare_data import load, prepare_data
from tasks.references import KnowledgeReference, TeacherReference
from tasks.tracking.tags import Tag
from tests.conftest import RECORDED, Recorded


@pytest.fixture
def fold(recorded: Recorded) -> Fold:
    """The first recorded comparison once more, with everything to be reused."""
    experiment = Experiment.model_validate(RECORDED)
    data = prepare_data.fn(experiment.data, None)
    return Fold(experiment=experiment, data=data, plan=make_plan(experiment, data), parent=recorded.first)


def teacher_of(fold: Fold) -> TeacherReference:
    assert fold.plan.teacher.source is not None
    return TeacherReference(run_id=fold.plan.teacher.source, reused=True, metrics={})


def test_reused_variants_need_no_knowledge(fold: Fold) -> None:
    assert fold.distilled_variants == []
    assert distil_knowledge.fn(teacher_of(fold), fold).taps == []


def folder(fold: Fold, **changes: Any) -> str:
    """The folder of the outputs of the recorded teacher for the students of a changed experiment."""
    experiment = Experiment.model_validate(RECORDED | changes)
    changed = {"experiment": experiment, "data": prepare_data.fn(experiment.data, None)}
    return distil_knowledge.fn(teacher_of(fold), fold.model_copy(update=changed)).folder


def test_each_set_of_images_has_a_folder_of_its_own(fold: Fold) -> None:
    """One teacher teaches students with and without transfer images."""
    classes = [{"classes": [7, 8]}, {"classes": [7]}]
    folders = [folder(fold, data=RECORDED["data"] | {"transfer": transfer}) for transfer in (None, *classes)]
    assert folders[0] == "knowledge"
    assert len(set(folders)) == 3


def test_a_folder_of_its_own_depends_on_the_code_of_the_augmentation(
    fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = RECORDED["student"] | {"augment": [{"jitter": 1}]}
    before = folder(fold, student=student)
    assert folder(fold, student=student) == before
    monkeypatch.setitem(VERSIONS, "augment.jitter", VERSIONS["augment.jitter"] + 1)  # type: ignore[arg-type]
    assert folder(fold, student=student) != before


def test_stored_knowledge_is_not_computed_again(fold: Fold) -> None:
    students = [student.model_copy(update={"action": "train"}) for student in fold.plan.students]
    fold = fold.model_copy(update={"plan": fold.plan.model_copy(update={"students": students})})
    assert [variant.name for variant in fold.distilled_variants] == ["kd"]
    teacher = teacher_of(fold)
    tags = tracking.get(teacher.run_id).tags
    reference = distil_knowledge.fn(teacher, fold)
    assert tracking.get(teacher.run_id).tags == tags
    assert json.loads(tags[Tag.KNOWLEDGE]) == {"logits": 1}
    (train,), validation = load_both(reference, [], "cpu", ())
    dataset = load(fold.data)
    assert train.logits.shape == (len(dataset.distillation_split), 10)
    assert validation.logits.shape == (len(dataset.validation), 10)


def test_students_of_one_machine_download_knowledge_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    logits = {"train-view-0": np.full((30, 10), 1, np.float16), "validation": np.full((10, 10), 2, np.float16)}
    for split, values in logits.items():
        (tmp_path / "folder" / split).mkdir(parents=True)
        np.save(tmp_path / "folder" / split / "logits.npy", values)
    run = tracking.start("digits", "teacher", "teacher")
    tracking.log_folder(run, tmp_path / "folder", "knowledge")
    reference = KnowledgeReference(teacher_run_id=run, taps=[], views=1, folder="knowledge")
    with ThreadPoolExecutor(3) as pool:
        loaded = list(pool.map(lambda _: load_both(reference, [], "cpu", ()), range(3)))
    for (train,), validation in loaded:
        assert (train.logits == 1).all()
        assert (validation.logits == 2).all()
    log = (tmp_path / "server.log").read_text()
    assert log.count("/artifacts/knowledge/train-view-0/logits.npy HTTP") == 2  # the upload and one download
    assert log.count("/artifacts/knowledge/validation/logits.npy HTTP") == 2
