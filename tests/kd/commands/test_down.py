"""`kd down` without a `kd up`. tests/faults/test_machine.py has one that runs."""

from pathlib import Path

import pytest

from flows.services.up_state import only_up
from tests.conftest import Here


def test_kd_down_without_kd_up(kd_here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert kd_here("down") == (0, "", "kd up does not run\n")
    with only_up():
        code, _, error = kd_here("down")
    assert code == 1
    assert error.startswith("kd: error: another kd up is starting or stopping: ")
