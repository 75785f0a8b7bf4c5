"""Costs are measured for runs that have none yet, e.g. runs of a version that did not measure costs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdmodels.experiment import Network
from kdmodels.networks import Description
from tasks import tracking
from tasks.measure_costs import measure_costs, measured
from tasks.references import StudentReference, TeacherReference
from tasks.tracking.models import log_model
from tests.support.served import onnx_of


@pytest.fixture
def old(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    tracking.configure()
    run_id = tracking.start("old", "kd", "student", params={"threads": 1})
    description = Description(
        network=Network(mlp=[8]), input_shape=(1, 8, 8), classes=["a", "b"], mean=[0.5], std=[0.5]
    )
    content = onnx_of(description.build(), (1, 8, 8))
    log_model(run_id, content, np.zeros((2, 1, 8, 8), np.float32))
    tracking.log_metrics(run_id, [("val/accuracy", 0.5, 0)])
    tracking.end(run_id, "FINISHED")
    return run_id


def test_costs_are_logged_once_and_the_number_of_threads_is_restored(old: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        metrics = measured(old)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    weights, alive = 4 * (64 * 8 + 8 + 8 * 2 + 2 + 2) + 8 * 2, 4 * 3 * 64
    assert metrics["cost/memory_mb"] == pytest.approx((weights + alive) / 1e6)
    assert metrics["val/accuracy"] == 0.5
    assert tracking.get(old).metrics == metrics
    assert measured(old) == metrics


def test_a_failed_student_gets_no_costs(old: str) -> None:
    failed = StudentReference(
        variant="b", run_id=None, status="FAILED", reused=False, seeds=[], metrics={}, per_seed={}, parameters=None
    )
    finished = failed.model_copy(update={"run_id": old, "status": "FINISHED"})
    teacher = TeacherReference(run_id=old, reused=True, metrics={})
    measured_teacher, (one, other) = measure_costs.fn(teacher, [failed, finished])
    assert one == failed
    assert other.metrics == measured_teacher.metrics == measured(old)
