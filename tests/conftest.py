"""Shared fixtures: a Prefect server, empty and filled MLflow stores, and `kd` in the process of the tests."""

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from flows.services.prefect_internals.client import refresh_settings
from flows.services.prefect_server import running_server
from tests.support import schemas

Here = Callable[..., tuple[int, str, str]]
# The experiment that most tests start from, which trains in seconds. Override fields with `SMALL | {...}`.
SMALL: dict[str, Any] = {
    "name": "small",
    "threads": 1,
    "runner": {"kind": "thread"},  # a worker process would import everything anew in each test
    "data": {"source": "digits", "validation": 0.2},
    "teacher": {"network": {"mlp": [32]}, "epochs": 4},
    "student": {"network": {"mlp": [8]}, "epochs": 3, "seeds": 2},
    "variants": ["hard-labels", "kd"],
}
RECORDED = SMALL | {"student": {"network": {"mlp": [16]}, "epochs": 4, "seeds": 2, "optimizer": {"adam": {"lr": 0.01}}}}

# A shell that runs the tests in the background makes them, and every command they start, ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadline, because a busy machine is no failure. A commit always tests the same examples, so its tests pass in
# every clone. To search for new examples: pytest --hypothesis-profile=search
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("repeatable")
# Otherwise each MLflow server starts seven more processes, which take 5 s of CPU time each.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep locks, checkpoints and decoded data in a temporary folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_prefect_server() -> Iterator[None]:
    """After a test that changed PREFECT_API_URL, let Prefect use the restored address again.

    An autouse fixture is torn down after `monkeypatch`, which has then restored the environment.
    """
    yield
    if "prefect.context" in sys.modules:
        from prefect.settings import get_current_settings

        if get_current_settings().api.url != os.environ.get("PREFECT_API_URL"):
            refresh_settings()


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Prefect home with an empty database, which tests copy, because making one takes seconds."""
    return tmp_path_factory.mktemp("prefect-empty")


@pytest.fixture(scope="session")
def prefect_server(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server, set PREFECT_API_URL, and yield the API's address."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.delenv("PREFECT_PROFILE", raising=False)
        with running_server() as server:
            server.wait_ready()
            for database in home.glob("prefect.db*"):
                shutil.copy(database, prefect_home)
            yield server.url


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Return a function that makes an empty MLflow store in a folder and returns its URI.

    The function copies a store, because MLflow's migrations take 3 s.
    """
    from tasks import tracking

    migrated = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{migrated}")
        tracking.configure()

    def new_store(folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(migrated)) as source, closing(sqlite3.connect(folder / "mlflow.db")) as target:
            source.backup(target)
        return f"sqlite:///{folder / 'mlflow.db'}"

    return new_store


@dataclass(frozen=True)
class Recorded:
    """A store, and the run ids of its comparisons from the oldest to the newest.

    Args:
        uri: the tracking URI of the store.
        first: the comparison of `RECORDED`.
        again: the same with another temperature of kd; the control was reused.
        other: another experiment, in which one student diverged.
        unfinished: a comparison that is RUNNING and has no leaderboard.
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
    from flows.distill import StudentsFailedError, distill
    from kdmodels.experiment import Experiment
    from tasks import tracking

    def run(**changes: Any) -> str:
        return distill(Experiment.model_validate(RECORDED | changes)).parent_run_id

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("ledger") / "mlruns"))
        uri = tracking.configure()
        first = run()
        terms = [{"hard_labels": 0.1}, {"soft_targets": {"weight": 0.9, "temperature": 2}}]
        again = run(variants=["hard-labels", {"name": "kd", "terms": terms}])
        broken = {"name": "broken", "terms": [{"hard_labels": 3e38}]}
        with pytest.raises(StudentsFailedError) as failed:
            run(name="other", seed=5, variants=["hard-labels", broken])
        other = failed.value.outcome.parent_run_id
        unfinished = tracking.start("small", "small", "comparison", params={"promote.model": "small-student"})
        return Recorded(uri, first, again, other, unfinished)


@pytest.fixture
def recorded(recorded_once: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Configure this process for the filled store, which tests only read."""
    from tasks import tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", recorded_once.uri)
    tracking.configure()
    return recorded_once


@pytest.fixture(scope="module")
def module_store(
    new_store: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, prefect_server: str
) -> Iterator[None]:
    """Provide a Prefect server, and a new store for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path_factory.mktemp("store") / "mlruns"))
        yield


@pytest.fixture
def kd_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """Yield a function that runs `kd` in this process and returns exit code, stdout and stderr.

    The function checks JSON output against its schema.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def here(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kd", *words])
        capsys.readouterr()
        from kd import main

        code = main.main()
        out, error = capsys.readouterr()
        if "--json" in words:
            schemas.check(words, out)
        return code, out, error

    yield here
    for number, handler in before.items():
        signal.signal(number, handler)
