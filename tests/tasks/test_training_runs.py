"""What a run records while a network trains: one step per epoch, means over seeds, and seconds."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdmodels.experiment import Experiment
from kdmodels.training import Replica
from tasks import tracking
from tasks.training_runs import EpochLog, last_epoch, means, origin, timed
from tests.conftest import SMALL


@pytest.fixture
def run_id(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    return tracking.start("small", "kd", "student")


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(entry.step, entry.value) for entry in MlflowClient().get_metric_history(run_id, metric)]


def test_means_have_a_standard_deviation_from_two_replicas_on() -> None:
    assert means([{"val/accuracy": 0.5}], 3) == [("val/accuracy", 0.5, 3)]
    (mean, deviation) = means([{"val/accuracy": 0.5}, {"val/accuracy": 0.7}], 3)
    assert mean == ("val/accuracy", pytest.approx(0.6), 3)
    assert deviation == ("val/accuracy/std", pytest.approx(0.02**0.5), 3)


def test_a_metric_that_a_replica_lacks_has_no_mean() -> None:
    both = {"train/loss": 1.0, "val/accuracy": 0.5}
    for figures in ([both, {"train/loss": 3.0}], [{"train/loss": 3.0}, both]):
        assert [name for name, _, _ in means(figures, 3)] == ["train/loss", "train/loss/std"]


def test_a_replica_that_has_ended_keeps_its_last_figures_in_the_means(run_id: str) -> None:
    short = Replica(0, [{"val/accuracy": 0.5}])
    long = Replica(1, [{"val/accuracy": 0.7}, {"val/accuracy": 0.9}])
    log = EpochLog(run_id)
    log(1, [short, long])
    log(last_epoch([short, long]), [short, long])
    log.finish([short, long], Experiment.model_validate(SMALL).student)
    assert history(run_id, "val/accuracy") == [(1, pytest.approx(0.6)), (2, pytest.approx(0.7))]
    assert history(run_id, "epoch") == [(1, 1), (2, 2)]


def test_seconds_before_an_interruption_count(run_id: str) -> None:
    with timed(run_id, "training", lambda: 100.0):
        pass
    assert 100 <= tracking.get(run_id).metrics["seconds/training"] < 110


def test_outside_a_flow_the_origin_names_versions_only() -> None:
    tags = origin()
    assert tags == {
        f"kd.{tag}": version(package)
        for tag, package in {"torch": "torch", "mlflow": "mlflow", "prefect": "prefect", "version": "kdflow"}.items()
    }
