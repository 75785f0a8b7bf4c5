"""Distillation with images of a registered generator, with noise, and with either of them alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.distill import Outcome, distill, plan_only
from flows.generate import generate
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment, GeneratorExperiment
from tasks import tracking
from tests.conftest import SMALL

DATA = {"source": "digits", "validation": 0.2, "labelled": 100}
EXPERIMENT = SMALL | {
    "name": "made-students",
    "teacher": {"network": {"mlp": [32]}, "epochs": 10, "data": {"labelled": None}},
    "student": {"network": {"mlp": [16]}, "epochs": 8, "seeds": 1, "optimizer": {"adam": {"lr": 0.01}}},
}
GENERATED = {
    "name": "made",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "judge": {"network": {"mlp": [32]}, "epochs": 15, "optimizer": {"adam": {"lr": 0.01}}},
    "generator": {"vae": {"hidden": [64], "latent": 8}, "epochs": 25, "batch": 64, "lr": 0.01},
}


def experiment(**transfer: Any) -> Experiment:
    return Experiment.model_validate(EXPERIMENT | {"data": DATA | {"transfer": transfer}})


def accuracy(outcome: Outcome, variant: str) -> float:
    return next(each.accuracy for each in outcome.students if each.variant == variant)


@pytest.fixture(scope="module")
def outcomes(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[dict[str, Outcome]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("made")))
        assert generate(GeneratorExperiment.model_validate(GENERATED)).verdict.promoted
        made = {"generator": "models:/made@champion", "count": 900}
        yield {
            "mixed": distill(experiment(**made)),
            "alone": distill(experiment(**made, alone=True)),
            "noise": distill(experiment(noise="uniform", count=900, alone=True)),
        }


def test_students_learn_from_made_images_and_hardly_from_noise(outcomes: dict[str, Outcome]) -> None:
    assert accuracy(outcomes["mixed"], "kd") > 0.8
    assert accuracy(outcomes["alone"], "kd") > 0.7
    assert accuracy(outcomes["noise"], "kd") < accuracy(outcomes["alone"], "kd") - 0.1


def test_the_teacher_and_the_control_do_not_depend_on_the_made_images(outcomes: dict[str, Outcome]) -> None:
    teachers = {outcome.teacher.run_id for outcome in outcomes.values()}
    controls = {row.run_id for outcome in outcomes.values() for row in outcome.students if row.variant == "hard-labels"}
    assert (len(teachers), len(controls)) == (1, 1)
    steps = [row.variant for row in outcomes["alone"].students if row.variant not in ("hard-labels", "kd")]
    assert len(steps) == 1  # the control with as many steps


def test_a_new_champion_does_not_change_what_a_run_has_recorded(outcomes: dict[str, Outcome]) -> None:
    alone = outcomes["alone"]
    recorded = tracking.read_json(alone.parent_run_id, "experiment.json")
    assert recorded["data"]["transfer"]["generator"] == "models:/made/1"
    student = next(row for row in alone.students if row.variant == "kd")
    params = tracking.get(str(student.run_id)).params
    assert len(params["data.transfer.generator"]) == 64
    assert params["data.transfer.alone"] == "True"
    again = plan_only(experiment(generator="made", count=900, alone=True))
    assert [step.action for step in again.steps] == ["reuse"] * len(again.steps)
    more = plan_only(experiment(generator="made", count=901, alone=True))
    reasons = [step.reason for step in more.students if step.name == "kd"]
    assert "data.transfer.count: 900 -> 901" in reasons[0]


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("absent", r"^data\.transfer\.generator: model 'absent' is not in the registry"),
        ("made-students-student", r"^data\.transfer\.generator: model 'made-students-student' is not a generator"),
    ],
)
def test_a_model_that_makes_no_images_is_refused(model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_only(experiment(generator=model, count=10))
