"""How many students are trained at the same time, and what becomes of a student that fails before its run begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.distill import plan_only
from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.execution.runners import available_cores, runner_of, workers_for
from tasks.fan_out import most_trained
from tests.conftest import SMALL

EXPERIMENT = SMALL | {"variants": ["hard-labels", "kd", "hint"], "runner": {"kind": "process", "workers": 8}}


@pytest.fixture(autouse=True)
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()


def worker_count(**changes: Any) -> int:
    experiment = Experiment.model_validate(EXPERIMENT | changes)
    plan = plan_only(experiment)
    return workers_for(runner_of(experiment), most_trained([plan, *plan.folds]))


def test_this_process_and_the_workers_train_one_student_each() -> None:
    assert worker_count() == 2


def test_without_a_choice_there_is_one_process_for_each_core_but_none_for_a_single_student() -> None:
    automatic = {"runner": {"kind": "auto"}, "device": "cpu"}
    assert worker_count(**automatic) == min(available_cores(), 3) - 1
    assert worker_count(**automatic, variants=["hard-labels"]) == 0


def test_students_of_the_other_folds_need_no_more_workers() -> None:
    """Folds run one after the other."""
    assert worker_count(data={"source": "digits", "folds": 3}, variants=["hard-labels", "kd"]) == 1


def test_reused_students_need_no_workers() -> None:
    plan = plan_only(Experiment.model_validate(EXPERIMENT))
    reused = [student.model_copy(update={"action": "reuse"}) for student in plan.students]
    assert most_trained([plan.model_copy(update={"students": reused})]) == 0
