"""`kd up`: the options that reach the services."""

import pytest

from flows.services.up import UpOptions
from kd.commands import up
from tests.conftest import Here


def test_the_options_are_passed_on(kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(up, "up", calls.append)
    assert kd_here("up") == kd_here("up", "--port", "4201", "--mlflow-port", "5001", "--login") == (0, "", "")
    assert calls == [UpOptions(4200, 5000, login=False), UpOptions(4201, 5001, login=True)]
