"""`kd up` and its runs: a scheduled run sends a message and is cancelled, and a killed run ends in Prefect."""

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tasks import tracking
from tests.faults.conftest import Workspace, used
from tests.faults.test_interrupt import LONG
from tests.support.receiver import Receiver, running_receiver

NOTIFY = "notify: {on: [promoted, failed], webhook: {env: KD_TEST_HOOK}}\n"


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    """Wait for a scheduled run, which imports everything anew. On a busy machine, that takes minutes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Up:
    """A workspace whose `kd up` runs, and the receiver of the messages of its runs."""

    workspace: Workspace
    home: Path
    receiver: Receiver

    def flow_runs(self) -> dict[str, str | None]:
        """Return the state of each flow run in Prefect that has begun, by its id."""
        state = json.loads((self.home / "kdflow-server.json").read_text())
        with SyncPrefectClient(state["url"], auth_string=state["auth"]) as client:
            return {str(run.id): run.state_name for run in client.read_flow_runs() if run.start_time}

    def schedule(self, name: str) -> None:
        """Schedule NAME.yaml, and start one run of the schedule."""
        for words in ([f"{name}.yaml", "--every", "86400"], ["--run-now", name]):
            done = self.workspace.kd("schedule", *words)
            assert done.returncode == 0, done.stderr

    def end_schedule(self, name: str) -> None:
        """Delete a schedule as soon as no run of it is in progress."""
        wait_until(lambda: "Running" not in self.flow_runs().values())
        done = self.workspace.kd("schedule", "--delete", name)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def served(new_workspace: Callable[[], Workspace], prefect_home: Path) -> Iterator[Up]:
    workspace = new_workspace()
    home = workspace.folder / "prefect"
    shutil.copytree(prefect_home, home)
    for name in [name for name in workspace.environment if name.startswith("PREFECT")]:
        del workspace.environment[name]
    with running_receiver() as receiver, used(workspace):
        workspace.environment.update(PREFECT_HOME=str(home), KD_TEST_HOOK=f"{receiver.address}/topsecret")
        tracking.configure()
        process = workspace.start("up", "--port", str(free_port()), "--mlflow-port", str(free_port()))
        assert process.stderr
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would block `kd up`
        wait_until((home / "kdflow-server.json").exists)
        yield Up(workspace, home, receiver)
        process.send_signal(signal.SIGTERM)
        process.wait(90)


@pytest.mark.fault
def test_a_scheduled_run_sends_a_message_and_hides_the_address(served: Up) -> None:
    file = served.workspace.folder / "reporting.yaml"
    file.write_text((served.workspace.folder / "small.yaml").read_text().replace("small", "reporting") + NOTIFY)
    served.schedule("reporting")
    wait_until(lambda: bool(served.receiver.documents))
    served.end_schedule("reporting")
    message = served.receiver.documents[0]
    assert tracking.get(message["run_id"]).experiment == "reporting"
    assert (message["event"], message["experiment"]) == ("promoted", "reporting")
    assert "becomes the first champion" in message["verdict"]
    assert message["links"]["prefect"].startswith("http://127.0.0.1:")
    assert f"/runs/{message['run_id']}?" in message["links"]["mlflow"]
    stored = [path for path in (served.home, served.workspace.folder / "mlruns") for path in path.rglob("*")]
    assert not [path for path in stored if path.is_file() and b"topsecret" in path.read_bytes()]


def wait_for_training(experiment: str) -> None:
    """Wait until a student of a running comparison has reached epoch 5."""

    def trained() -> bool:
        return any(run.kind == "student" and run.metrics.get("epoch", 0) >= 5 for run in tracking.running(experiment))

    wait_until(trained)


@pytest.mark.fault
def test_a_scheduled_run_is_cancelled(served: Up) -> None:
    file = served.workspace.folder / "endless.yaml"
    text = (served.workspace.folder / "small.yaml").read_text()
    file.write_text(text.replace("small", "endless").replace("epochs: 40", "epochs: 100000"))
    before = served.flow_runs()
    served.schedule("endless")
    wait_for_training("endless")
    refused = served.workspace.kd("schedule", "--delete", "endless")
    assert refused.returncode == 2, refused.stderr
    assert "--delete endless: the run endless" in refused.stderr
    assert "is in progress. Allowed: kd schedule --pause endless, and" in refused.stderr
    done = served.workspace.kd("cancel", "endless")
    assert done.returncode == 0, done.stderr
    comparison = tracking.get(done.stderr.split("(")[1][:32])
    assert comparison.status == "KILLED"
    flow_run = comparison.tags["kd.prefect_flow_run"]
    assert flow_run not in before
    wait_until(lambda: served.flow_runs()[flow_run] != "Running")
    assert served.flow_runs()[flow_run] == "Cancelled"
    served.end_schedule("endless")


@pytest.mark.fault  # 2 minutes
def test_the_automation_ends_a_killed_run_in_prefect(served: Up) -> None:
    seed = ("--set", "seed=1")  # with seed 0, this run would resume the cancelled students of `endless`
    process = served.workspace.start(*LONG, *seed)
    wait_for_training("small")
    (comparison,) = [run for run in tracking.running("small") if run.kind == "comparison"]
    flow_run = comparison.tags["kd.prefect_flow_run"]
    assert served.flow_runs()[flow_run] == "Running"
    process.kill()
    process.wait()
    wait_until(lambda: served.flow_runs()[flow_run] != "Running")
    assert served.flow_runs()[flow_run] == "Crashed"
    assert f"ended small ({comparison.run_id})" in served.workspace.kd("doctor", "--fix").stderr  # in MLflow
