"""A real store for each test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import tracking


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty store that this process is configured for."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    return tmp_path / "mlruns"
