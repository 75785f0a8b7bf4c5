"""One ledger that real runs of the flow have filled, for the tests that read it; `kd` in the tests' own process."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import cli
from tasks import tracking

Here = Callable[..., tuple[int, str, str]]
RECORDED: dict[str, Any] = {
    "name": "small",
    "threads": 1,
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [32]}, "epochs": 4},
    "student": {"network": {"mlp": [16]}, "epochs": 4, "seeds": 2, "optimizer": {"adam": {"lr": 0.01}}},
    "variants": ["hard-labels", "kd"],
}


@dataclass(frozen=True)
class Recorded:
    """A store, and the run ids of its comparisons, from the oldest to the newest.

    `again` changed kd's temperature and reused the control; of `other`, another experiment, one student diverged;
    `unfinished` is RUNNING and has no leaderboard.
    """

    uri: str
    first: str
    again: str
    other: str
    unfinished: str


@pytest.fixture(scope="session")
def recorded_once(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Recorded:
    from flows.distill import StudentsFailedError, distill  # takes seconds, which other tests need not pay
    from kdmodels.experiment import Experiment

    def run(**changes: Any) -> str:
        return distill(Experiment.model_validate(RECORDED | changes)).parent_run_id

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("ledger") / "mlruns"))
        uri = tracking.configure()
        first = run()
        colder = [{"hard_labels": 0.1}, {"soft_targets": {"weight": 0.9, "temperature": 2}}]
        again = run(variants=["hard-labels", {"name": "kd", "terms": colder}])
        broken = {"name": "broken", "terms": [{"hard_labels": 3e38}]}
        with pytest.raises(StudentsFailedError) as failed:
            run(name="other", seed=5, variants=["hard-labels", broken])
        other = failed.value.outcome.parent_run_id
        unfinished = tracking.start("small", "small", "comparison", params={"promote.model": "small-student"})
        return Recorded(uri, first, again, other, unfinished)


@pytest.fixture
def recorded(recorded_once: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The filled ledger, for which this process is configured; tests only read it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", recorded_once.uri)
    tracking.configure()
    return recorded_once


@pytest.fixture
def kd_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """`kd` in this process, which has imported everything already: its exit code, stdout and stderr."""
    before = signal.getsignal(signal.SIGTERM)

    def here(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kd", *words])
        capsys.readouterr()
        code = cli.main()
        return code, *capsys.readouterr()

    yield here
    signal.signal(signal.SIGTERM, before)
