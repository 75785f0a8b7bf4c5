"""One real Prefect server for all tests that run a flow in this process, and real MLflow stores, made only once."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings

from flows.server import running_server

# A shell that starts the tests in the background has them ignore SIGINT, and every command they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadline: how busy the machine is proves nothing. The same commit gives the same examples, so that a clone passes
# as this did; for new ones: pytest --hypothesis-profile=search
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("repeatable")
# Else each MLflow server that a test starts has seven processes more, of 5 s of CPU each.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Locks, checkpoints and decoded data go to a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home to copy for a server of one's own: to make its database, still empty, takes seconds."""
    return tmp_path_factory.mktemp("prefect-empty")


@pytest.fixture(scope="session")
def prefect_server(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's API address, which is also in the environment."""
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
    """Make an empty MLflow store in a folder, by copying one, for MLflow's migrations take 3 s: its URI."""
    from tasks import tracking  # takes seconds, which other tests need not pay

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
