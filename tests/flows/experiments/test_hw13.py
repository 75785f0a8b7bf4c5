"""The homework on a small data folder with the same layout, image sizes, classes and teacher network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from flows.distill import Options, distill, plan_only
from flows.experiments import find
from flows.promote import promote
from kdmodels.errors import UserError
from kdmodels.experiment import Experiment
from kdmodels.experiment.file import read_experiment
from tasks import tracking

CLASSES = 11
SHORT = ["student.epochs=1", "student.schedule=null", "student.seeds=1", "student.batch=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide food11-hw13/{training,validation,evaluation}/CLASS_NUMBER.jpg, and the weights of a ResNet-18."""
    root = tmp_path_factory.mktemp("homework")
    generator = np.random.default_rng(0)
    for split, count in (("training", 3), ("validation", 2), ("evaluation", 2)):
        inside = root / "food11-hw13" / split
        inside.mkdir(parents=True)
        for label in range(CLASSES):
            for number in range(count):
                size = (128, 128) if number else (96, 160)  # photos have different sizes
                Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)).save(
                    inside / f"{label}_{number}.jpg"
                )
    with torch.random.fork_rng():
        torch.save(resnet18(num_classes=CLASSES).state_dict(), root / "food11-hw13" / "resnet18_teacher.ckpt")
    return root


@pytest.fixture(scope="module")
def store(new_store: Callable[[Path], str], folder: Path) -> str:
    return new_store(folder / "mlruns")


@pytest.fixture(autouse=True)
def _stores(store: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def homework(*overrides: str) -> Experiment:
    return read_experiment(find("hw13"), overrides)


def test_the_shipped_file_can_be_planned(folder: Path) -> None:
    plan = plan_only(homework(), Options(data_dir=str(folder)))
    names = [step.name for step in plan.students]
    assert names == ["hard-labels", "kd", "fitnet", "rkd", "dm", "fitnet+kd"]
    assert all(step.params["network.compact.budget.parameters"] == 60_000 for step in plan.students)
    assert plan.knowledge.count == 50  # one view per epoch: the few images fit the budget


def test_a_plan_needs_the_teachers_weights(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^teacher\.checkpoint: nowhere\.ckpt: .*nowhere\.ckpt do(es)? not exist"):
        plan_only(homework("teacher.checkpoint=nowhere.ckpt"), Options(data_dir=str(folder)))


@pytest.mark.fault
def test_students_within_the_budget_that_learnt_nothing_are_promoted_by_force_only(
    folder: Path, prefect_server: str
) -> None:
    experiment = homework(*SHORT, "variants=[hint]")
    outcome = distill(experiment, Options(data_dir=str(folder)))
    assert [student.status for student in outcome.students] == ["FINISHED"] * 2
    assert all(student.parameters is not None and student.parameters <= 60_000 for student in outcome.students)
    assert "is not significantly better than the most frequent class" in outcome.verdict.reason  # the photos are noise
    assert promote(outcome.parent_run_id, force="a test").promoted
    champion = tracking.champion("hw13-student")
    assert champion is not None
    assert champion.run_id is not None
    assert {"test/accuracy", "test/macro_f1", "cost/flops", "latency/p50_ms"} <= tracking.get(
        champion.run_id
    ).metrics.keys()
