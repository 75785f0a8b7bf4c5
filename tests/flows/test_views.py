"""Augmentation and knowledge through the whole flow: stored views, more views later, and a live teacher."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.distill import Outcome, distill
from kdmodels.experiment import Experiment
from kdmodels.report.predictions import Predictions
from tasks import tracking
from tasks.results import DISAGREEMENTS, FIGURES, PREDICTIONS
from tests.conftest import SMALL

pytestmark = pytest.mark.fault

EXPERIMENT = SMALL | {
    "name": "views",
    "data": SMALL["data"] | {"augment": [{"jitter": 1}, {"mixup": 0.2}]},
    "teacher": {"network": {"mlp": [16]}, "epochs": 2},
    "student": {"network": {"mlp": [8]}, "epochs": 2, "seeds": 2},
}


def run(**changes: Any) -> Outcome:
    return distill(Experiment.model_validate(EXPERIMENT | changes))


@pytest.fixture(scope="module")
def outcomes(new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Any:
    """Run 2 epochs, 3 epochs with a hint too, and the same with a live teacher. Provide the files after each run."""
    longer = {"student": EXPERIMENT["student"] | {"epochs": 3}, "variants": ["hard-labels", "kd", "hint"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store")))
        first = run()
        stored = files(first)
        second = run(**longer)
        yield first, stored, second, run(**longer, knowledge={"views": 0})


def files(outcome: Outcome) -> dict[str, tuple[int, int]]:
    """Return inode and modification time of each stored file."""
    folder = tracking.artifact(outcome.teacher.run_id, "knowledge")
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in Path(folder).rglob("*.npy")
    }


def student(outcome: Outcome, variant: str) -> tracking.Run:
    (run_id,) = [row.run_id for row in outcome.students if row.variant == variant]
    assert run_id is not None
    return tracking.get(run_id)


def test_a_view_is_stored_for_each_epoch(outcomes: Any) -> None:
    first, stored, _, _ = outcomes
    assert sorted(stored) == ["train-view-0/logits.npy", "train-view-1/logits.npy", "validation/logits.npy"]
    kd = student(first, "kd")
    assert (kd.params["views"], kd.params["live_teacher"], kd.params["augment_seed"]) == ("2", "False", "0")
    assert kd.params["data.augment.0.jitter"] == "1"
    assert student(first, "hard-labels").params["views"] == "2"
    assert "live_teacher" not in student(first, "hard-labels").params
    assert tracking.get(first.parent_run_id).tags["kd.views"] == "2 views: take 51.8KB; the budget is 2.0GB"


def test_missing_knowledge_is_added_and_no_file_is_written_again(outcomes: Any) -> None:
    first, stored, second, _ = outcomes
    assert second.teacher.reused
    after = files(second)
    assert {name: after[name] for name in stored} == stored
    assert sorted(after.keys() - stored.keys()) == [
        "train-view-0/middle.npy", "train-view-1/middle.npy", "train-view-2/logits.npy", "train-view-2/middle.npy",
        "validation/middle.npy"]  # fmt: skip
    assert json.loads(tracking.get(first.teacher.run_id).tags["kd.knowledge"]) == {"logits": 3, "middle": 3}


def test_the_report_has_predictions_of_stored_and_live_teachers(outcomes: Any) -> None:
    first, _, _, live = outcomes
    for outcome in (first, live):
        predictions = Predictions.model_validate(tracking.read_json(outcome.parent_run_id, PREDICTIONS))
        assert predictions.networks[-1].role == "teacher"
        assert predictions.networks[-1].accuracy == pytest.approx(outcome.teacher.metrics["val/accuracy"])


def test_a_student_has_a_picture_of_disagreements_with_stored_and_live_teachers(outcomes: Any) -> None:
    first, _, _, live = outcomes
    for outcome in (first, live):
        assert tracking.has_artifact(student(outcome, "kd").run_id, f"{FIGURES}/{DISAGREEMENTS}")


def test_a_live_teacher_sees_the_same_views(outcomes: Any) -> None:
    """The control is therefore reused, and distilled students differ only by the rounding of stored knowledge."""
    _, _, second, live = outcomes
    assert [row.reused for row in live.students] == [True, False, False]
    assert files(live) == files(second)
    for variant, loss in (("kd", "train/soft_targets"), ("hint", "train/hint")):
        one, other = student(second, variant), student(live, variant)
        assert (other.params["views"], other.params["live_teacher"]) == ("3", "True")
        assert other.metrics[loss] == pytest.approx(one.metrics[loss], rel=5e-3)
        # A single metric may be equal by chance.
        assert any(other.metrics[name] != one.metrics[name] for name in one.metrics if name.startswith("train/"))
