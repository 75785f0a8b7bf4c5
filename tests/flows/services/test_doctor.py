"""Each check of `kd doctor`, on a machine in order and on a broken one."""

import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.services import doctor, doctor_servers
from flows.services.doctor import Check, Finding, check, check_port, checks
from flows.services.prefect_internals.client import refresh_settings
from flows.services.up_state import UpState, announced, only_up, state_file
from tasks import tracking
from tasks.tracking import health

NAMES = [
    "libraries", "tracking store", "Prefect server", "Prefect worker", "mnist", "compute", "disk", "unended runs",
    "Prefect runs", "checkpoints", "orphaned folders", "decoded data", "knowledge", "port 4200", "port 5000",
]  # fmt: skip


@pytest.fixture(autouse=True)
def machine(tmp_path: Path) -> Iterator[Path]:
    """Provide an empty home and working folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_PROFILE", "KD_DATA"):
            patch.delenv(name, raising=False)
        patch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.chdir(tmp_path)
        refresh_settings()
        yield tmp_path
    refresh_settings()  # later tests of this process use the session's server


def test_an_empty_machine_is_in_order_and_left_unchanged(machine: Path) -> None:
    results = checks()
    assert [result.name for result in results] == NAMES
    assert list(Check.model_fields) == ["name", "ok", "detail", "remedy"]  # keys of the JSON document
    assert [result.name for result in results if result.ok is False] == []
    by_name = {result.name: result for result in results}
    store = by_name["tracking store"]
    assert store.detail == f"{machine}/mlruns/mlflow.db: does not exist yet; the first run creates it"
    assert by_name["Prefect server"].ok is None
    assert {path.name for path in machine.iterdir()} <= {"prefect"}  # Prefect creates its home when it reads settings


def test_a_broken_part_does_not_hide_the_others(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "broken.db").write_text("not a database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///broken.db")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    results = {result.name: result for result in checks()}
    assert list(results) == NAMES
    assert (results["tracking store"].ok, results["Prefect server"].ok) == (False, False)
    assert "file is not a database" in results["tracking store"].detail
    assert results["Prefect server"].detail == "no answer at http://127.0.0.1:9/api"
    assert "PREFECT_API_URL" in (results["Prefect server"].remedy or "")
    assert results["unended runs"].ok is None
    assert results["libraries"].ok is True


def test_libraries_are_compared_with_the_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("libraries").ok is True
    requirements = ["sqlalchemy<1", "no-such-library", "torch>=1", 'ruff<0; extra == "dev"']
    monkeypatch.setattr(doctor, "requires", lambda name: requirements)
    result = check("libraries")
    assert result.ok is False
    assert "no-such-library missing" in result.detail
    assert "required <1" in result.detail
    assert "torch" not in result.detail
    assert "ruff" not in result.detail


def test_the_store_is_described_and_written_to(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.configure()
    result = check("tracking store")
    assert result.ok is True
    assert result.detail.startswith(f"{machine}/mlruns/mlflow.db, ")
    assert "schema " in result.detail
    monkeypatch.setattr(health, "_LOCKED_S", 0.1)
    writer = sqlite3.connect(machine / "mlruns" / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert check("tracking store").ok is False
    assert "database is locked" in check("tracking store").detail
    writer.close()
    assert check("tracking store").ok is True


def test_runs_that_never_ended_are_reported() -> None:
    tracking.configure()
    young = tracking.start("digits", "young", "student")
    assert check("unended runs") == Check(name="unended runs", ok=True, detail="none", remedy=None)
    yesterday = int((time.time() - 25 * 3600) * 1000)
    experiment = tracking.experiment_id("digits")
    old = MlflowClient().create_run(experiment, yesterday, {"kd.kind": "student"}, "old").info.run_id
    result = check("unended runs")
    assert result.ok is None
    assert result.detail == f"RUNNING for over 24 hours: old ({old})"
    assert young not in result.detail
    assert "mlflow runs delete" in (result.remedy or "")
    tracking.end(old, "KILLED")
    assert check("unended runs").ok is True


def test_the_version_of_a_prefect_server_is_reported(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = version("prefect")
    result = Check(name="Prefect server", ok=True, detail=f"{prefect_server}, Prefect {installed}", remedy=None)
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    refresh_settings()
    assert check("Prefect server") == result
    monkeypatch.delenv("PREFECT_API_URL")
    refresh_settings()
    state_file().parent.mkdir(exist_ok=True)
    state = UpState(url=prefect_server, pid=1, auth=os.environ["PREFECT_API_AUTH_STRING"])
    with only_up(), announced(state):
        assert check("Prefect server") == result
        assert check("port 4200").detail == "kd up runs already"
        monkeypatch.setattr(doctor_servers, "version", lambda name: "3.0.0")
        mismatch = check("Prefect server")
    assert mismatch.ok is None
    assert f", Prefect {installed}; here is 3.0.0" in mismatch.detail


def test_mnist_is_looked_for_where_a_run_looks(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check("mnist")
    assert (result.ok, result.detail.split(";")[0]) == (None, f"not at {machine}/cache/kdflow/MNIST/raw")
    monkeypatch.setenv("KD_DATA", str(machine))
    raw = machine / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in doctor.MNIST[:3]:
        (raw / name).touch()
    result = check("mnist")
    assert result.ok is False
    assert result.detail.endswith(f"has no {doctor.MNIST[3]}")
    (raw / doctor.MNIST[3]).touch()
    assert check("mnist") == Check(name="mnist", ok=True, detail=str(raw), remedy=None)


def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("disk").ok is True
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    assert check("disk").ok is False


def test_a_taken_port_is_reported_with_its_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert check_port(port, "--port") == Finding(None, "taken", "choose another: --port")
    assert check_port(port, "--port") == Finding(True, "free")
