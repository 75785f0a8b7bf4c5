"""Two machines, i.e. two homes, caches and working folders, with the same MLflow server and the same Prefect server."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks import tracking
from tasks.results import REPLICAS
from tasks.tracking.tags import Tag
from tests.faults.conftest import AT_CALL, KILL, Workspace
from tests.faults.servers import Server

pytestmark = pytest.mark.fault

TRAINING = "tasks.training_runs:EpochLog.__call__", "50"  # the first machine has trained the teacher, but no student
PAUSE = "touch paused; while [ ! -e continue ]; do sleep 0.1; done"
SUSPEND = "touch paused; kill -STOP $PPID"  # stops all threads, also the one that renews the lease
Machines = tuple[Workspace, Workspace]


@pytest.fixture
def machines(
    workspace: Workspace, new_workspace: Callable[[], Workspace], mlflow_server: Server, own_prefect: Server
) -> Iterator[Machines]:
    second = new_workspace()
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        second.environment[name] = workspace.environment[name]
    for machine in (workspace, second):
        machine.environment["KD_CHECKPOINT_SECONDS"] = "0"  # the first epoch is stored for other machines
        machine.environment["HOME"] = str(machine.folder)
        machine.environment["PREFECT_HOME"] = str(machine.folder / "home-of-prefect")
    yield workspace, second
    for process in second.started:
        process.kill()
        process.wait()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 900
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


def unended() -> set[str]:
    tracking.configure()
    return {run.run_id for run in tracking.running()}


def outcome_of(process: "subprocess.Popen[str]") -> Any:
    """Return the JSON document that a command prints. The command must succeed."""
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


def assert_each_network_was_trained_once(outcomes: list[Any]) -> None:
    reused = [[student["reused"] for student in outcome["students"]] for outcome in outcomes]
    assert all(sorted(pair) == [False, True] for pair in zip(*reused, strict=True))
    assert [outcome["verdict"]["version"] for outcome in outcomes] == [1, 1]


def assert_whole_and_taken_over(run_id: str, first: str) -> None:
    """Check that a run continues the checkpoint of another run, and that both runs have the replicas of one process."""
    assert tracking.get(run_id).tags[Tag.TAKEN_OVER] == first
    content = []
    for run in map(tracking.get, (run_id, first)):
        folder = tracking.artifact(run.run_id, REPLICAS)
        assert [entry.step for entry in MlflowClient().get_metric_history(run.run_id, "epoch")] == [*range(1, 41)]
        content.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert content[0] == content[1]


def findings(machine: Workspace) -> dict[str, Any]:
    return {check["name"]: check["ok"] for check in json.loads(machine.kd("doctor", "--json").stdout)}


def test_each_network_is_trained_on_one_machine_only(machines: Machines) -> None:
    first, second = machines
    runs_first = first.start(*TRAINING, PAUSE, "run", "small.yaml", "--quiet", "--json", by=AT_CALL)
    until((first.folder / "paused").exists)
    runs_second = second.start("run", "small.yaml", "--quiet", "--json")
    until(lambda: len(unended()) == 3)  # two comparisons, and the student that the first machine trains
    running = unended()
    found = findings(second)
    assert (found["unended runs"], found["Prefect runs"]) == (True, True)
    ended = second.kd("doctor", "--fix").stderr
    assert not [run_id for run_id in running if run_id in ended]
    assert unended() == running
    (first.folder / "continue").touch()
    outcomes = [outcome_of(process) for process in (runs_first, runs_second)]
    first.outcome()  # checks that no network was trained twice, and that the model has one version
    assert_each_network_was_trained_once(outcomes)


def test_a_lock_is_held_across_a_restart_of_prefect(machines: Machines, own_prefect: Server) -> None:
    first, second = machines
    runs_first = first.start(*TRAINING, PAUSE, "run", "small.yaml", "--quiet", "--json", by=AT_CALL)
    until((first.folder / "paused").exists)
    own_prefect.kill()
    own_prefect.start()
    runs_second = second.start("run", "small.yaml", "--quiet", "--json")
    until(lambda: len(unended()) == 3)  # two comparisons, and the student that the first machine trains
    time.sleep(10)  # the second machine asks for the lock every 2 s
    assert len(unended()) == 3
    (first.folder / "continue").touch()
    assert_each_network_was_trained_once([outcome_of(process) for process in (runs_first, runs_second)])


def test_a_machine_that_was_suspended_trains_its_network_too_and_replaces_no_champion(machines: Machines) -> None:
    first, second = machines
    suspended = first.start(*TRAINING, SUSPEND, "run", "small.yaml", "--quiet", "--json", by=AT_CALL)
    until((first.folder / "paused").exists)
    done = outcome_of(second.start("run", "small.yaml", "--quiet", "--json"))  # waits until the lease has expired
    assert not any(student["reused"] for student in done["students"])
    assert done["verdict"]["promoted"]
    suspended.send_signal(signal.SIGCONT)
    late = outcome_of(suspended)
    assert not late["students"][0]["reused"]
    assert [student["metrics"]["val/accuracy"] for student in late["students"]] == [
        student["metrics"]["val/accuracy"] for student in done["students"]
    ]
    assert unended() == set()
    assert [(version.version, version.aliases) for version in tracking.versions("small-student")] == [
        (1, ("champion",))
    ]
    assert_whole_and_taken_over(done["students"][0]["run_id"], late["students"][0]["run_id"])
    again = outcome_of(second.start("run", "small.yaml", "--quiet", "--json"))
    assert all(student["reused"] for student in again["students"])


def test_one_machine_cancels_the_run_of_another(machines: Machines) -> None:
    first, second = machines
    process = first.start("run", "small.yaml", "--quiet", "--set", "student.epochs=5000")
    until(lambda: len(unended()) == 2)
    cancelled = second.kd("cancel", "small")
    assert cancelled.returncode == 0, cancelled.stderr
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert unended() == set()


def test_the_second_machine_takes_over_when_the_first_is_lost(machines: Machines) -> None:
    first, second = machines
    killed = first.start(*TRAINING, KILL, "run", "small.yaml", "--quiet", by=AT_CALL)
    killed.wait(900)
    lost = unended()
    assert len(lost) == 2  # the comparison and its student
    ended = second.kd("doctor", "--fix").stderr
    assert not [run_id for run_id in lost if run_id in ended]
    done = second.kd("run", "small.yaml", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"]["promoted"]
    continued = tracking.get(json.loads(done.stdout)["students"][0]["run_id"])
    assert continued.tags[Tag.TAKEN_OVER] in lost
    assert unended() == lost
    ended = first.kd("doctor", "--fix").stderr
    assert all(f"({run_id}): its process has ended" in ended for run_id in lost)
    assert unended() == set()
