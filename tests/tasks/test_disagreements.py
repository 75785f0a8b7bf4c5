"""The images on which student and teacher disagree most, also those of a real comparison."""

import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.disagreements import (
    MOST_PROBABILITIES,
    PICTURES,
    TEMPERATURE,
    evenly_spaced,
    record_disagreements,
    softmax,
    temperature_of,
)
from tasks.planning.plan import make_plan
from tasks.prepare_data import prepare_data
from tasks.references import KnowledgeReference
from tasks.results import DISAGREEMENTS, FIGURES, KNOWLEDGE
from tasks.student_job import StudentJob
from tasks.tracking.tags import Tag
from tests.conftest import RECORDED, Recorded

TEXT, IMAGE = "{http://www.w3.org/2000/svg}text", "{http://www.w3.org/2000/svg}image"


def test_the_picture_of_a_student_shows_images_and_both_distributions(recorded: Recorded) -> None:
    (run,) = [run for run in tracking.children(recorded.again) if run.tags.get(Tag.VARIANT) == "kd"]
    picture = ElementTree.parse(tracking.artifact(run.run_id, f"{FIGURES}/{DISAGREEMENTS}"))
    texts = [element.text for element in picture.iter(TEXT)]
    images = [element.get("href") for element in picture.iter(IMAGE)]
    assert 0 < len(images) <= PICTURES
    assert all(str(image).startswith("data:image/png;base64,") for image in images)
    for group in ("student, T = 1", "teacher, T = 1", "student, T = 2", "teacher, T = 2"):
        assert texts.count(group) == len(images)


def test_a_picture_that_cannot_be_made_is_a_warning(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    experiment = Experiment.model_validate(RECORDED)
    data = prepare_data.fn(experiment.data, None)
    job = StudentJob(
        variant=experiment.variants[1],
        step=make_plan(experiment, data).students[1],
        experiment=experiment,
        data=data,
        knowledge=KnowledgeReference(teacher_run_id="0" * 32, taps=[], views=1, folder=KNOWLEDGE),
        views=1,
        parent="",
    )
    run_id = tracking.start("small", "kd", "student")
    record_disagreements(run_id, job, torch.zeros(data.examples["validation"], len(data.classes)))
    assert "the images of disagreements were not recorded: " in tracking.get(run_id).tags[Tag.WARNING]


def test_the_temperature_is_that_of_the_terms() -> None:
    terms = [{"hard_labels": 0.1}, {"soft_targets": {"weight": 0.9, "temperature": 2}}]
    experiment = Experiment.model_validate(RECORDED | {"variants": ["hard-labels", {"name": "kd", "terms": terms}]})
    control, distilled = experiment.variants
    assert temperature_of(distilled.terms) == 2
    assert temperature_of(control.terms) == TEMPERATURE


def test_the_probabilities_of_an_ensemble_are_the_mean_of_its_members() -> None:
    members = torch.tensor([[[0.75, 0.25], [0.25, 0.75]]]).log()
    assert softmax(members)[0] == pytest.approx([0.5, 0.5])
    assert softmax(torch.tensor([[math.log(0.9), math.log(0.1)]]), 2.0)[0] == pytest.approx([0.75, 0.25])


def test_very_many_images_are_thinned_out_evenly() -> None:
    assert evenly_spaced(5, 10).tolist() == [0, 1, 2, 3, 4]
    rows = evenly_spaced(10 * MOST_PROBABILITIES // 1_000, 1_000)
    assert len(rows) == MOST_PROBABILITIES // 1_000
    assert (rows[0], rows[-1]) == (0, 10 * MOST_PROBABILITIES // 1_000 - 1)
    assert set(rows.diff().tolist()) == {10, 11}
