"""Fixtures: one comparison of the digits for all tests of this folder, and a browser. `make test-ui` runs the tests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.ui.scene import Scene, chromium, digits_scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A real comparison of the digits, and the servers of `kd up`."""
    with digits_scene(tmp_path_factory.mktemp("digits")) as scene:
        yield scene


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def store(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process read the store of the comparison."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # restored after the test
    scene.use_store()


@pytest.fixture(scope="session")
def report(scene: Scene) -> Path:
    """The file that `kd report` writes."""
    file = scene.folder / "report.html"
    scene.kd("report", "-o", str(file))
    return file


@pytest.fixture(scope="session")
def compared(scene: Scene) -> list[dict[str, Any]]:
    """The rows of `kd compare --json`, best variant first."""
    rows: list[dict[str, Any]] = json.loads(scene.kd("compare", scene.run_id, "--json"))
    return sorted(rows, key=lambda row: -row["metrics"]["val/accuracy"])
