"""What `kd up --detach` finds in the log as soon as the state is announced. tests/faults starts real servers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.services import up as module
from flows.services.prefect_server import bind
from flows.services.up import UpOptions, up
from flows.services.up_state import UpState


def test_the_addresses_are_printed_before_the_state_is_announced(
    no_server: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    printed = []

    @contextlib.contextmanager
    def served(options: UpOptions, *_: object) -> Iterator[tuple[UpState, str]]:
        yield UpState(url=options.url, pid=1, auth="kdflow:secret"), "http://mlflow.example"

    @contextlib.contextmanager
    def announced(_: UpState) -> Iterator[None]:
        printed.append(capfd.readouterr().err)
        yield

    monkeypatch.setattr(module, "_served", served)
    monkeypatch.setattr(module, "announced", announced)
    monkeypatch.setattr(module, "wait_for_exit", lambda *_: None)
    with bind(0) as one, bind(0) as other:
        port, mlflow_port = one.getsockname()[1], other.getsockname()[1]
    up(UpOptions(port, mlflow_port), echo=False)
    prefect, mlflow = printed[0].splitlines()
    assert prefect.startswith(f"Prefect  http://127.0.0.1:{port}  password ")
    assert mlflow == "MLflow   http://mlflow.example"
