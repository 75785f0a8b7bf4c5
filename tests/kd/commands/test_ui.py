"""`kd ui`: the options that reach the MLflow UI."""

import pytest

from kd.commands import ui
from tests.conftest import Here


def test_the_port_and_the_login_are_passed_on(kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(ui, "ui", lambda port, **options: calls.append((port, *options.values())))
    assert kd_here("ui") == kd_here("ui", "--port", "5001", "--login", "--open") == (0, "", "")
    assert calls == [(5000, False, False), (5001, True, True)]
