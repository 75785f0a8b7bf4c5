"""`kd up --detach`, `kd status`, `kd schedule` and `kd down` as processes: kills, downtimes and missed runs."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from flows.services import prefect_server
from flows.services.dead_runs import NO_HEARTBEAT
from tests.conftest import SMALL

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[2]
KD = Path(sys.executable).with_name("kd")
QUICK = SMALL | {"name": "quick", "student": {"network": {"mlp": [8]}, "epochs": 1, "seeds": 1}}
PHOTOS = SMALL | {
    "name": "photos",
    "data": {"source": "./photos"},
    "student": {"network": {"mlp": [8]}, "epochs": 30, "seeds": 1},  # better than chance, so that there is a champion
}
SLOW = SMALL | {"name": "slow", "teacher": {"network": {"mlp": [32]}, "epochs": 100_000}}
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Machine:
    """A user's home folder with two experiments, and the environment of the user's commands."""

    home: Path
    environment: dict[str, str]
    ports: tuple[int, int]

    def kd(self, *words: str) -> Done:
        return subprocess.run(
            [str(KD), *words],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def up(self) -> None:
        done = self.kd("up", "--detach", "--port", str(self.ports[0]), "--mlflow-port", str(self.ports[1]))
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, Any]:
        done = self.kd("status", "--json")
        status: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if status["running"] else 1), done.stderr
        return status

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.home / ".prefect" / "kdflow-server.json").read_text())
        return state

    def pid(self, service: str) -> int:
        (pid,) = [each["pid"] for each in self.status()["services"] if each["name"] == service]
        return int(pid)

    def runs(self) -> list[FlowRun]:
        """Return all flow runs of schedules, in the order of their due times."""
        state = self.state()
        with SyncPrefectClient(state["url"], auth_string=state["auth"]) as client:
            runs = client.read_flow_runs()
        return sorted(runs, key=lambda run: run.expected_start_time)

    def states(self) -> list[str | None]:
        return [run.state_name for run in self.runs()]

    def due_before(self, moment: datetime) -> list[FlowRun]:
        return [run for run in self.runs() if run.expected_start_time < moment]

    def processes(self) -> list[str]:
        """Return the command lines of all processes with this home folder."""
        command_lines = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
                if f"HOME={self.home}\0".encode() in (path / "environ").read_bytes():
                    command_lines.append((path / "cmdline").read_text().replace("\0", " "))
        return command_lines


def free_port() -> int:
    with prefect_server.bind(0) as listener:
        return int(listener.getsockname()[1])


def until(true: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def add_photos(folder: Path, *, seed: int) -> None:
    """Add 30 photos of 3 classes, which differ in the bright third."""
    generator = np.random.default_rng(seed)
    for label in range(3):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for number in range(30):
            pixels = generator.integers(0, 100, (8, 8), dtype=np.uint8)
            pixels[:, 3 * label : 3 * label + 2] += 150
            Image.fromarray(pixels).save(folder / str(label) / f"{seed}-{number}.png")


@pytest.fixture
def machine(tmp_path: Path, prefect_home: Path, new_store: Callable[[Path], str]) -> Iterator[Machine]:
    add_photos(tmp_path / "photos", seed=0)
    for experiment in (QUICK, PHOTOS, SLOW):
        (tmp_path / f"{experiment['name']}.yaml").write_text(yaml.safe_dump(experiment))
    shutil.copytree(prefect_home, tmp_path / ".prefect")
    new_store(tmp_path / "mlruns")
    prefixes = ("PREFECT", "MLFLOW", "KD_", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    machine = Machine(tmp_path, environment, (free_port(), free_port()))
    yield machine
    machine.kd("down")
    until(lambda: not machine.processes())


def test_up_status_and_down(machine: Machine) -> None:
    assert machine.status() == {
        "running": False,
        "store_error": None,
        "busy": False,
        "logs": str(machine.home / ".prefect" / "kdflow-logs"),
        "pid": None,
        "started": None,
        "services": [],
        "schedules": [],
    }
    machine.up()
    status = machine.status()
    assert [service["name"] for service in status["services"]] == ["Prefect server", "MLflow server", "Prefect worker"]
    ports = [service["address"] and int(service["address"].rpartition(":")[2]) for service in status["services"]]
    assert ports == [*machine.ports, None]
    for service, module in zip(status["services"], ("serve_prefect", "mlflow", "worker"), strict=True):
        assert module in Path(f"/proc/{service['pid']}/cmdline").read_text()
        assert Path(service["log"]).parent == Path(status["logs"])
        assert Path(service["log"]).exists()
    again = machine.kd("up", "--detach", "--port", str(free_port()), "--mlflow-port", str(free_port()))
    assert again.returncode == 1
    url = f"http://127.0.0.1:{machine.ports[0]}/api"
    assert (
        again.stderr == f"kd: error: kd up runs already (process {status['pid']}, {url}): stop it first with kd down\n"
    )
    down = machine.kd("down")
    assert (down.returncode, down.stderr) == (0, f"stopped kd up (process {status['pid']})\n")
    until(lambda: not machine.processes())
    assert machine.kd("down").stderr == "kd up does not run\n"


def test_a_start_that_fails_shows_one_error_and_the_log(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = machine.kd("up", "--detach", "--port", str(port), "--mlflow-port", str(machine.ports[1]))
    assert done.returncode == 1
    expected = f"kd: error: port {port} cannot be used (Address already in use): choose another with --port\n"
    assert done.stderr == expected
    for file in (machine.home / ".prefect").glob("prefect.db*"):
        file.unlink()
    (machine.home / ".prefect" / "prefect.db").write_text("not a database")
    done = machine.kd("up", "--detach", "--port", str(machine.ports[0]), "--mlflow-port", str(machine.ports[1]))
    assert done.returncode == 1
    log = machine.home / ".prefect" / "kdflow-logs" / "prefect-server.log"
    *lines, error = done.stderr.splitlines()
    assert error.startswith("kd: error: the Prefect server stopped with exit code ")
    assert error.endswith(f"Its log is {log}")
    assert any("file is not a database" in line for line in lines)
    assert len(lines) <= 10


def test_two_starts_at_once_give_one_kd_up(machine: Machine) -> None:
    starts = [
        subprocess.Popen(
            [str(KD), "up", "--detach", "--port", str(port), "--mlflow-port", str(free_port())],
            cwd=machine.home,
            env=machine.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for port in (machine.ports[0], free_port())
    ]
    results = [(start.communicate(timeout=300)[1], start.returncode) for start in starts]
    assert sorted(code for _, code in results) == [0, 1]
    (error,) = [stderr for stderr, code in results if code == 1]
    assert error.splitlines()[-1].startswith("kd: error: ")
    assert "kd up" in error
    assert machine.status()["running"]


def test_a_killed_kd_up_is_started_again_and_its_run_is_lost_but_blocks_nothing(machine: Machine) -> None:
    machine.up()
    assert machine.kd("schedule", "slow.yaml", "--cron", "0 3 1 1 *").returncode == 0
    assert machine.kd("schedule", "--run-now", "slow").returncode == 0
    until(lambda: "Running" in machine.states())
    os.kill(machine.status()["pid"], signal.SIGKILL)
    until(lambda: not machine.processes())
    assert not machine.status()["running"]
    state = machine.state()  # the stale state file
    # Another program has the process id now.
    (machine.home / ".prefect" / "kdflow-server.json").write_text(json.dumps(state | {"pid": os.getpid()}))
    assert not machine.status()["running"]
    assert machine.kd("down").stderr == "kd up does not run\n"
    machine.up()
    (lost,) = ended(machine)
    assert lost.state is not None
    assert lost.state_name == "Crashed"
    # If the new start takes over 90 s, the automation ends the run first.
    assert lost.state.message in ("kd up ended before the run did", NO_HEARTBEAT)
    assert machine.kd("schedule", "--run-now", "slow").returncode == 0
    until(lambda: "Running" in machine.states())  # the slot of the lost run is free
    assert machine.kd("schedule", "--run-now", "slow").returncode == 0
    time.sleep(15)  # the worker would start the second run within 2 s
    assert machine.states().count("Running") == 1


def missed(machine: Machine, count: int) -> datetime:
    """Wait until the next planned runs are due, and return the time of the last of them."""
    planned = [run.expected_start_time for run in machine.runs() if run.state_name == "Scheduled"][:count]
    assert len(planned) == count
    until(lambda: datetime.now(planned[-1].tzinfo) > planned[-1])
    return planned[-1]


def require_one_catch_up(machine: Machine, since: datetime) -> None:
    """Require that at most one of the runs that were missed before a moment starts later, and that a run completes.

    If another run was due when the worker began to look for runs, that run catches up instead.
    """

    def began_since(run: FlowRun) -> bool:
        return run.start_time is None or run.start_time > since

    until(lambda: [run for run in ended(machine) if run.state_name == "Completed" and began_since(run)])
    states = Counter(run.state_name for run in machine.due_before(since) if began_since(run))
    assert states.pop("Skipped") >= 1
    states.pop("Crashed", None)  # the run that `kd down` interrupted
    assert states.total() <= 1


def test_one_run_catches_up_after_a_downtime(machine: Machine) -> None:
    machine.up()
    assert machine.kd("schedule", "quick.yaml", "--every", "8").returncode == 0
    until(lambda: "Completed" in machine.states())
    last_due = [run.expected_start_time for run in machine.runs() if run.state_name == "Scheduled"][2]
    assert machine.kd("down").returncode == 0
    until(lambda: datetime.now(last_due.tzinfo) > last_due)
    machine.up()
    require_one_catch_up(machine, datetime.fromisoformat(machine.state()["started"]))


def test_one_run_catches_up_after_the_worker_was_stopped(machine: Machine) -> None:
    machine.up()
    worker = machine.pid("Prefect worker")
    os.kill(worker, signal.SIGSTOP)
    assert machine.kd("schedule", "quick.yaml", "--every", "8").returncode == 0
    until(lambda: "Scheduled" in machine.states())
    missed(machine, 3)
    restarted = datetime.now().astimezone()
    os.kill(worker, signal.SIGCONT)
    require_one_catch_up(machine, restarted)
    status = machine.status()["schedules"][0]
    assert status["last_run"]["state"] in ("Completed", "Running", "Pending")
    assert status["next_run"]
    assert status["champion"] == "quick-student/1"


def run_now(machine: Machine) -> str:
    """Run the only schedule once, and return the message of the run's final state."""
    count = len(ended(machine))
    name = machine.status()["schedules"][0]["name"]
    assert machine.kd("schedule", "--run-now", name).returncode == 0
    until(lambda: len(ended(machine)) > count)
    last = machine.status()["schedules"][0]["last_run"]
    assert last["state"] == "Completed", last
    return str(last["message"])


def ended(machine: Machine) -> list[FlowRun]:
    return [run for run in machine.runs() if run.state and run.state.is_final()]


def test_unchanged_data_are_reused_and_changed_data_are_trained_and_judged(machine: Machine) -> None:
    machine.up()
    assert machine.kd("schedule", "photos.yaml", "--cron", "0 3 1 1 *").returncode == 0
    store = MlflowClient(f"sqlite:///{machine.home}/mlruns/mlflow.db")

    def kinds() -> dict[str, int]:
        experiment = store.get_experiment_by_name("photos")
        return Counter(run.data.tags["kd.kind"] for run in store.search_runs([experiment.experiment_id]))

    run_now(machine)
    assert kinds() == {"comparison": 1, "teacher": 1, "student": 2}
    assert run_now(machine).startswith("nothing has changed: all 3 earlier runs are reused")
    assert kinds() == {"comparison": 2, "teacher": 1, "student": 2}
    add_photos(machine.home / "photos", seed=1)
    run_now(machine)
    assert kinds() == {"comparison": 3, "teacher": 2, "student": 4}
    verdict = machine.status()["schedules"][0]["verdict"]
    assert "champion" in verdict
