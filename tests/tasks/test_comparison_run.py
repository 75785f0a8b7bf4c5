"""A session forgets a stop when it ends, and the clock adds up the seconds of a stage."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kdmodels.experiment import Experiment
from tasks import tracking
from tasks.cancellation import RunCancelledError
from tasks.comparison_run import Clock, session
from tasks.execution import interruption
from tests.conftest import SMALL

EXPERIMENT = Experiment.model_validate(SMALL)


def test_the_clock_adds_up_the_blocks_of_a_stage() -> None:
    clock = Clock()
    for _ in range(2):
        with clock("students"):
            time.sleep(0.01)
    with pytest.raises(ValueError, match="stage"), clock("compare"):
        raise ValueError("stage")
    assert list(clock.seconds) == ["students", "compare"]
    assert 0.02 <= clock.seconds["students"] < 2


def test_the_clock_keeps_the_highest_memory_of_a_stage() -> None:
    clock = Clock()
    for megabytes in (256, 0):
        with clock("students"):
            np.ones(megabytes * 125_000)
    with clock("compare"):
        assert "seconds/compare" not in clock.metrics  # the report reads the metrics during its own stage
    assert {*clock.metrics} == {"seconds/students", "memory_mb/students", "seconds/compare", "memory_mb/compare"}
    assert clock.metrics["memory_mb/students"] - clock.metrics["memory_mb/compare"] > 200


def test_a_stop_ends_the_session_and_does_not_outlive_it(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    interruption.stop()
    with pytest.raises(KeyboardInterrupt), session(EXPERIMENT):
        pytest.fail("the stop was requested before the session")
    with session(EXPERIMENT) as clock:
        interruption.check()
    assert clock.seconds == {}
    assert tracking.runs() == []


def test_a_session_of_a_cancelled_run_says_who_cancelled(
    new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    with pytest.raises(RunCancelledError, match=r"^cancelled by ann$"), session(EXPERIMENT):  # noqa: PT012
        interruption.interrupt_main("cancelled by ann")
        interruption.check()
    with session(EXPERIMENT):
        interruption.check()
