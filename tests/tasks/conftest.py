"""Fixtures for the tests of tasks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import tracking


@pytest.fixture
def store(new_store: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure an empty store, and return its folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path / "mlruns"))
    tracking.configure()
    return tmp_path / "mlruns"
