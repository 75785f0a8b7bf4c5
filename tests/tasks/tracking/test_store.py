"""The embedded store is its owner's alone."""

import os
import stat
from pathlib import Path

import pytest

from tasks import tracking


@pytest.mark.parametrize("umask", [0, 0o022])
def test_a_new_store_can_only_be_read_by_its_owner(umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    before = os.umask(umask)
    try:
        tracking.configure()
        run = tracking.start("digits", "kd", "student")
        tracking.log_text(run, "one/a.txt", "content")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert {modes.pop(name) for name in ("mlruns", "artifacts")} == {0o700}
    assert {"mlflow.db", "mlflow.db-wal"} <= modes.keys()
    modes.pop("mlflow.db.lock", None)  # it is empty
    assert set(modes.values()) == {0o600}
