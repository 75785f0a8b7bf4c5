"""A real store for each test; MLflow's 2 s of migrations are paid once and the file is copied."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tasks import tracking


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        tracking.configure()
    return folder / "mlflow.db"


@pytest.fixture
def store(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty store that this process is configured for."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    with closing(sqlite3.connect(migrated)) as source, closing(sqlite3.connect(folder / "mlflow.db")) as target:
        source.backup(target)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    tracking.configure()
    return folder
