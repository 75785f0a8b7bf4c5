"""Each part of the machine, as it is and broken for real."""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows import doctor, server
from tasks import tracking
from tasks.tracking import health

PARTS = [
    "libraries", "tracking store", "Prefect server", "mnist", "compute", "disk", "unended runs", "checkpoints",
    "orphaned folders", "decoded data", "knowledge", "port 4200", "port 5000",
]  # fmt: skip


@pytest.fixture(autouse=True)
def machine(tmp_path: Path) -> Iterator[Path]:
    """A home and a working folder with nothing in them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_PROFILE", "KD_DATA"):
            patch.delenv(name, raising=False)
        patch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.chdir(tmp_path)
        server.refresh_settings()
        yield tmp_path
    server.refresh_settings()  # for the tests after these, with their own environment back


def check(name: str) -> dict[str, Any]:
    return doctor._checked(name, doctor.CHECKS[name])


def test_a_bare_machine_is_in_order_and_left_as_it_was(machine: Path) -> None:
    rows = doctor.checks()
    assert [row["name"] for row in rows] == PARTS
    assert all(list(row) == ["name", "ok", "detail", "remedy"] for row in rows)
    assert [row["name"] for row in rows if row["ok"] is False] == []
    found = {row["name"]: row for row in rows}
    assert found["tracking store"]["detail"] == f"{machine}/mlruns/mlflow.db: not there yet, the first run makes it"
    assert found["Prefect server"]["ok"] is None
    made = {path.name for path in machine.iterdir()}
    assert made <= {"prefect"}  # Prefect makes its home whenever it reads its settings, if it is imported by now


def test_one_broken_part_does_not_hide_the_others(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "broken.db").write_text("this is no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///broken.db")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    rows = {row["name"]: row for row in doctor.checks()}
    assert list(rows) == PARTS
    assert (rows["tracking store"]["ok"], rows["Prefect server"]["ok"]) == (False, False)
    assert "file is not a database" in rows["tracking store"]["detail"]
    assert rows["Prefect server"]["detail"] == "no answer at http://127.0.0.1:9/api"
    assert "PREFECT_API_URL" in rows["Prefect server"]["remedy"]
    assert rows["unended runs"]["ok"] is None
    assert rows["libraries"]["ok"] is True


def test_libraries_are_held_against_what_the_project_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("libraries")["ok"] is True
    wanted = ["sqlalchemy<1", "no-such-library", "torch>=1", 'ruff<0; extra == "dev"']
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    row = check("libraries")
    assert row["ok"] is False
    assert "no-such-library missing" in row["detail"]
    assert "required <1" in row["detail"]
    assert "torch" not in row["detail"]
    assert "ruff" not in row["detail"]


def test_the_store_is_looked_at_and_tried(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.configure()
    row = check("tracking store")
    assert row["ok"] is True
    assert row["detail"].startswith(f"{machine}/mlruns/mlflow.db, ")
    assert "schema " in row["detail"]
    monkeypatch.setattr(health, "_LOCKED_S", 0.1)
    writer = sqlite3.connect(machine / "mlruns" / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert check("tracking store")["ok"] is False
    assert "database is locked" in check("tracking store")["detail"]
    writer.close()
    assert check("tracking store")["ok"] is True


def test_runs_that_never_ended_are_told(machine: Path) -> None:
    tracking.configure()
    young = tracking.start("digits", "young", "student")
    assert check("unended runs") == {"name": "unended runs", "ok": True, "detail": "none", "remedy": None}
    yesterday = int((time.time() - 25 * 3600) * 1000)
    experiment = tracking.experiment_id("digits")
    old = MlflowClient().create_run(experiment, yesterday, {"kd.kind": "student"}, "old").info.run_id
    row = check("unended runs")
    assert row["ok"] is None
    assert row["detail"] == f"RUNNING for over 24 hours: old ({old})"
    assert young not in row["detail"]
    assert "mlflow runs delete" in row["remedy"]
    tracking.end(old, "KILLED")
    assert check("unended runs")["ok"] is True


def test_a_prefect_server_tells_its_version(
    prefect_server: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = version("prefect")
    told = {"name": "Prefect server", "ok": True, "detail": f"{prefect_server}, Prefect {here}", "remedy": None}
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    server.refresh_settings()
    assert check("Prefect server") == told
    monkeypatch.delenv("PREFECT_API_URL")
    server.refresh_settings()
    server.state_file().parent.mkdir(exist_ok=True)
    state = {"url": prefect_server, "pid": "1", "auth": os.environ["PREFECT_API_AUTH_STRING"]}  # as kd up does
    server.state_file().write_text(json.dumps(state))
    assert check("Prefect server") == told
    assert check("port 4200")["detail"] == "kd up runs already"
    monkeypatch.setattr(doctor, "version", lambda name: "3.0.0")
    row = check("Prefect server")
    assert row["ok"] is None
    assert f"is Prefect {here}, here is 3.0.0" in row["detail"]


def test_mnist_is_sought_where_a_run_would(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = check("mnist")
    assert (row["ok"], row["detail"].split(";")[0]) == (None, f"not at {machine}/cache/kdflow/MNIST/raw")
    monkeypatch.setenv("KD_DATA", str(machine))
    raw = machine / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in doctor.MNIST[:3]:
        (raw / name).touch()
    row = check("mnist")
    assert row["ok"] is False
    assert row["detail"].endswith(f"has no {doctor.MNIST[3]}")
    (raw / doctor.MNIST[3]).touch()
    assert check("mnist") == {"name": "mnist", "ok": True, "detail": str(raw), "remedy": None}


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("disk")["ok"] is True
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    assert check("disk")["ok"] is False


def test_a_taken_port_names_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert doctor._port(port, "--port") == (None, "taken", "choose another: --port")
    assert doctor._port(port, "--port") == (True, "free", None)
