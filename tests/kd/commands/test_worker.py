"""`kd worker`: the option that reaches the worker."""

import pytest

from kd.commands import worker
from tests.conftest import Here


def test_the_port_is_passed_on(kd_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(worker, "run_worker", lambda **options: calls.append(options))
    assert kd_here("worker") == kd_here("worker", "--health-port", "8080") == (0, "", "")
    assert calls == [{"health_port": None}, {"health_port": 8080}]
