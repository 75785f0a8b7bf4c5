"""`kd up` and schedules with real servers: a scheduled run must end as FINISHED in MLflow.

Only these tests detect a wrong version of SQLAlchemy: the server answers, but no schedule starts a run.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from mlflow import MlflowClient

from flows.services import prefect_server as server
from flows.services.deployments import ScheduledExperiment, delete_schedule, list_schedules, pause_schedule
from flows.services.prefect_internals.client import refresh_settings
from flows.services.schedules import create_schedule
from flows.services.status import machine_status
from flows.services.up import UpOptions, up
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment, Schedule

pytestmark = pytest.mark.fault

TINY = Experiment.model_validate(
    {
        "name": "tiny",
        "threads": 1,
        "data": {"source": "digits"},
        "teacher": {"network": {"mlp": [16]}, "epochs": 1},
        "student": {"network": "nets:Small", "epochs": 1, "seeds": 1},  # in the working folder of the schedule
        "variants": ["hard-labels", "kd"],
        "schedule": {"every": 10},
        "runner": {"kind": "process", "workers": 2},  # spawned processes import kdflow anew
    }
)
NETS = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""
NETS_ALONE = ["nets"]
UP = "import sys; from flows.services.up import UpOptions, up; up(UpOptions(*map(int, sys.argv[1:])))"


@dataclass(frozen=True)
class Served:
    """A running `kd up`, its folder, environment and ports."""

    process: subprocess.Popen[str]
    home: Path
    environment: dict[str, str]
    port: int
    mlflow_port: int

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def runs(self, kind: str) -> list[str]:
        """Return the status of each MLflow run of this kind, newest first."""
        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name("tiny")
        if experiment is None:
            return []
        runs = client.search_runs([experiment.experiment_id], filter_string=f"tags.kd.kind = '{kind}'")
        return [run.info.status for run in runs]

    def get(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """Send a request with the password to Prefect's API, and return the answer."""
        auth = json.loads((self.home / "kdflow-server.json").read_text())["auth"]
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}/{path}", data, headers, method=method)
        for _ in range(60):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    content = response.read()
                    return json.loads(content) if content else None
            except urllib.error.HTTPError as error:  # the database is busy; Prefect's own clients retry too
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                time.sleep(1)
        raise AssertionError(f"{path}: unavailable for a minute")

    def processes(self) -> list[str]:
        """Return the command lines of all processes with this PREFECT_HOME."""
        command_lines = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
                if f"PREFECT_HOME={self.home}".encode() in (path / "environ").read_bytes():
                    command_lines.append((path / "cmdline").read_text().replace("\0", " "))
        return command_lines


def plant_canaries(folder: Path) -> None:
    """Write code that creates a folder `canary` beside this folder if it ever runs."""
    canary = f"import os\nos.makedirs({str(folder.parent / 'canary')!r}, exist_ok=True)\n"
    flow = "from prefect import flow\n@flow\ndef f(**_): pass\n"
    for name in ("evil.py", "evil_flow.py", "scipy.py", "sitecustomize.py", "flows/__init__.py", "tasks/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(canary + (flow if name == "evil_flow.py" else ""))


def free_port() -> int:
    with server.bind(0) as listener:
        return int(listener.getsockname()[1])


def until(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.2)


@contextlib.contextmanager
def environment_of(variables: dict[str, str | None]) -> Iterator[None]:
    """Set these environment variables, and unset the variables whose value is None, while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        refresh_settings()
        yield
    refresh_settings()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Iterator[Served]:
    """Provide a `kd up`, with a schedule that was created before `kd up` started."""
    folder = tmp_path_factory.mktemp("up")
    home = folder / "prefect"
    shutil.copytree(prefect_home, home)
    (folder / "tmp").mkdir()
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",  # more often, and other writes often fail on a busy machine
        "TMPDIR": str(folder / "tmp"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "KD_"))} | own
    scheduled = folder / "experiments"
    frequent = ScheduledExperiment(
        name="tiny", active=True, cron=None, timezone=None, every=10, file=f"{scheduled}/tiny.yaml", file_changed=False
    )
    scheduled.mkdir()
    (scheduled / "nets.py").write_text(NETS)
    plant_canaries(scheduled)
    variables = {**own, "KD_DATA": "images", "PREFECT_API_URL": None}
    with environment_of(variables), contextlib.chdir(scheduled):
        with pytest.raises(
            UsageError, match=r"network\.module: the code of nets is not allowed in this schedule\. Allowed: none"
        ):
            create_schedule(TINY, cron="0 3 * * *")
        file = scheduled / "tiny.yaml"
        file.write_text("the file's content does not matter here")
        assert create_schedule(TINY, allow_code=NETS_ALONE, file=file) == frequent
    port, mlflow_port = free_port(), free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", UP, str(port), str(mlflow_port)],
            env=environment,
            stderr=log,
            text=True,
            cwd=folder,
        )
    served = Served(process, home, environment, port, mlflow_port)
    until(lambda: (home / "kdflow-server.json").exists() or process.poll() is not None)
    assert process.poll() is None, (folder / "log").read_text()
    yield served
    if process.poll() is None:
        process.kill()
    until(lambda: not served.processes())  # a killed `kd up` must leave no processes either


@pytest.fixture
def beside(served: Served) -> Iterator[None]:
    """Let this process be another command of the user who started `kd up`."""
    with environment_of({"PREFECT_HOME": str(served.home), "PREFECT_API_URL": None}):
        yield


def test_both_uis_are_served(served: Served) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/ui-settings", timeout=30) as response:
        assert json.load(response)["api_url"] == served.api
    until(lambda: _status(f"http://127.0.0.1:{served.mlflow_port}/") == 200)


def _status(url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> int | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_the_api_refuses_other_users_and_foreign_pages(served: Served) -> None:
    """test_prefect_server_access.py has more such tests, with a temporary server."""
    json_body = {"Content-Type": "application/json"}
    pools, flows = f"{served.api}/work_pools/filter", f"{served.api}/flows/"
    assert _status(pools, json_body, b"{}") == 401
    assert _status(pools, json_body | {"Host": "evil.example"}, b"{}") == 403
    assert _status(pools, json_body | {"Origin": "http://evil.example"}, b"{}") == 403
    assert _status(flows, {"Content-Type": "text/plain"}, b'{"name": "planted"}') == 415
    assert _status(f"http://127.0.0.1:{served.port}/", {"Host": "evil.example"}) == 403


def test_the_servers_listen_on_this_machine_only(served: Served) -> None:
    for port in (served.port, served.mlflow_port):
        until(lambda port=port: _connects("127.0.0.1", port))
        assert not _connects("127.0.0.2", port)  # a server on 0.0.0.0 would answer here


def _connects(address: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0


def test_the_password_is_shown_to_no_other_user(served: Served) -> None:
    password = (served.home / "kdflow-password").read_text()
    state = served.home / "kdflow-server.json"
    assert json.loads(state.read_text())["auth"] == f"kdflow:{password}"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    log = (served.home.parent / "log").read_text()  # not a terminal
    assert password not in log
    assert str(served.home / "kdflow-password") in log
    assert not [line for line in served.processes() if password in line]


def test_prefect_refuses_an_invalid_experiment(served: Served) -> None:
    deployment = served.get("deployments/name/distill/tiny")
    assert deployment["enforce_parameter_schema"]
    assert deployment["parameters"]["experiment"] == TINY.model_dump(mode="json")
    assert Path(deployment["parameters"]["options"]["data_dir"]) == served.home.parent / "experiments" / "images"
    wrong = deployment["parameters"]["experiment"] | {"seed": "many"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        served.get(f"deployments/{deployment['id']}/create_flow_run", {"parameters": {"experiment": wrong}})
    assert refused.value.code == 409
    assert "many" in refused.value.read().decode()


@pytest.mark.usefixtures("beside")
def test_a_second_kd_up_is_refused(served: Served) -> None:
    with pytest.raises(UserError, match=rf"kd up runs already \(process {served.process.pid}, {served.api}\)"):
        up(UpOptions(free_port(), free_port()))


def test_a_scheduled_run_finishes_and_the_next_one_reuses_it(served: Served) -> None:
    until(lambda: served.runs("comparison").count("FINISHED") >= 2, seconds=300)
    assert served.runs("teacher") == ["FINISHED"]
    assert served.runs("student") == ["FINISHED"] * 2
    assert not (served.home.parent / "canary").exists()  # nothing in the schedule's folder shadows a library or kdflow
    assert not (served.home.parent / "tmp" / "runner_storage").exists()


@pytest.mark.usefixtures("beside")
def test_the_status_shows_services_schedules_and_results(served: Served) -> None:
    until(lambda: _status(f"http://127.0.0.1:{served.mlflow_port}/") == 200)
    status = machine_status()
    assert (status.running, status.pid, status.logs) == (True, served.process.pid, f"{served.home}/kdflow-logs")
    assert [(service.name, service.answers) for service in status.services] == [
        ("Prefect server", True),
        ("MLflow server", True),
        ("Prefect worker", None),
    ]
    (schedule,) = status.schedules
    assert schedule.last_run is not None
    assert schedule.next_run is not None
    assert schedule.champion == "tiny-student/1"
    assert schedule.verdict is not None
    assert (schedule.when, schedule.file_state) == ("every 10 s", f"{served.home.parent}/experiments/tiny.yaml")
    Path(str(schedule.file)).write_text("changed")
    assert machine_status().schedules[0].file_changed
    worker = (served.home / "kdflow-logs" / "prefect-worker.log").read_text()
    assert "Beginning flow run" in worker


@pytest.mark.usefixtures("beside")
def test_a_command_finds_the_server_and_deletes_the_schedule(served: Served) -> None:
    forms = 4  # promote, approve, reject and rollback
    assert len(list((served.home / "kdflow-schedules").iterdir())) == 1 + forms
    delete_schedule("tiny")
    assert list_schedules() == []
    assert len(list((served.home / "kdflow-schedules").iterdir())) == forms
    with pytest.raises(UserError, match=r"^no schedule 'tiny'\. None exist$"):
        delete_schedule("tiny")


def test_a_form_of_the_ui_promotes_a_student(served: Served) -> None:
    form = served.get("deployments/name/promote/promote")
    fields = form["parameter_openapi_schema"]["properties"]
    assert list(fields) == ["run", "data_dir", "force", "dry_run"]
    assert all(field["description"].endswith(".") for field in fields.values())
    run = served.get(f"deployments/{form['id']}/create_flow_run", {"parameters": {"force": "a test of the form"}})["id"]
    assert end_of(served, run)[0] == "COMPLETED"
    assert served.get(f"flow_runs/{run}")["name"].startswith("promote the latest winner 20")
    client = MlflowClient(served.environment["MLFLOW_TRACKING_URI"])
    assert client.get_model_version_by_alias("tiny-student", "champion")
    body = {"artifacts": {"key": {"any_": ["tiny-student-verdict"]}}}
    (artifact,) = served.get("artifacts/filter", body)
    assert "Champion of tiny-student: `models:/tiny-student/1`" in artifact["data"]


@pytest.mark.usefixtures("beside")
def test_a_new_schedule_replaces_the_earlier_one(served: Served) -> None:
    nightly = ScheduledExperiment(name="tiny", active=True, cron="0 3 * * *", timezone="Europe/Berlin", every=None)
    with contextlib.chdir(served.home.parent / "experiments"):
        create_schedule(TINY, cron="0 4 1 1 *", allow_code=NETS_ALONE)
        pause_schedule("tiny")
        assert not list_schedules()[0].active
        create_schedule(TINY, cron="0 3 * * *", timezone="Europe/Berlin", allow_code=NETS_ALONE)
        assert list_schedules() == [nightly]
        with_cron = TINY.model_copy(update={"schedule": Schedule(cron="0 3 * * *")})
        assert create_schedule(with_cron, timezone="Europe/Berlin", allow_code=NETS_ALONE) == nightly
    until(lambda: machine_status().schedules[0].next_run)
    next_run = machine_status().schedules[0].next_run
    assert next_run is not None
    assert next_run.astimezone(ZoneInfo("Europe/Berlin")).hour == 3
    delete_schedule("tiny")


@pytest.fixture
def scheduled(served: Served, beside: None) -> Iterator[dict[str, Any]]:
    """Provide a deployment that is due only in January."""
    with contextlib.chdir(served.home.parent / "experiments"):
        create_schedule(TINY, cron="0 3 1 1 *", allow_code=NETS_ALONE)
    yield served.get("deployments/name/distill/tiny")
    delete_schedule("tiny")


def evil_parameters(deployment: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = Experiment.model_validate(TINY.model_dump(mode="json") | changes).model_dump(mode="json")
    return {"parameters": deployment["parameters"] | {"experiment": changed}}


def end_of(served: Served, run: str) -> tuple[str, str]:
    """Wait until a flow run ends. Return its state and message."""
    ended = ("COMPLETED", "FAILED", "CRASHED")
    until(lambda: served.get(f"flow_runs/{run}")["state_type"] in ended, seconds=300)
    state = served.get(f"flow_runs/{run}")["state"]
    return state["type"], state["message"] or ""


ONLY = (
    "this worker runs flows.distill.distill, flows.generate.generate, flows.promote.promote, flows.review.approve, "
    "flows.review.reject, flows.rollback.rollback only"
)
EVIL_STUDENT = {"network": {"module": "evil:Net"}, "epochs": 1, "seeds": 1}


def test_runs_whose_parameters_name_other_code_are_refused(served: Served, scheduled: dict[str, Any]) -> None:
    """Prefect's UI can change the parameters of one run. The code is in the run's working folder."""
    runs = {}
    for module, changes in {
        "evil": {"student": EVIL_STUDENT},
        "./evil.py": {"data": {"source": "./evil.py:load"}},
    }.items():
        path = f"deployments/{scheduled['id']}/create_flow_run"
        runs[module] = served.get(path, evil_parameters(scheduled, **changes))["id"]
    for module, run in runs.items():
        state, message = end_of(served, run)
        assert state == "FAILED"
        assert f"the code of {module} is not allowed in this schedule. Allowed: nets. To allow it: " in message
    assert not (served.home.parent / "canary").exists()


def test_job_variables_and_the_work_pool_do_not_change_a_run(served: Served, scheduled: dict[str, Any]) -> None:
    folder = str(served.home.parent / "experiments")
    touch = f"mkdir {served.home.parent / 'canary'}"
    variables = {
        "command": touch,
        "env": {"KD_ALLOW_CODE": "evil", "PYTHONPATH": folder, "PREFECT_HOME": folder},
        "working_dir": folder,
    }
    served.get(f"deployments/{scheduled['id']}", {"job_variables": variables}, method="PATCH")
    template = served.get("work_pools/kdflow")["base_job_template"]
    template["variables"]["properties"]["command"]["default"] = touch
    template["job_configuration"]["command"] = touch
    served.get("work_pools/kdflow", {"base_job_template": template}, method="PATCH")
    time.sleep(12)  # the worker reads the template every 5 seconds
    path = f"deployments/{scheduled['id']}/create_flow_run"
    changed = evil_parameters(scheduled, student=EVIL_STUDENT) | {"job_variables": variables}
    state, message = end_of(served, served.get(path, changed)["id"])
    assert state == "FAILED"
    assert "the code of evil is not allowed in this schedule. Allowed: nets. " in message
    assert not (served.home.parent / "canary").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"entrypoint": "evil_flow.py:f"}, f"entrypoint: evil_flow.py:f: {ONLY}"),
        ({"entrypoint": "evil_flow.f"}, f"entrypoint: evil_flow.f: {ONLY}"),
        ({"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "CANARY"}}]}, "pull_steps: "),
    ],
)
def test_deployments_of_other_code_are_refused(
    served: Served, scheduled: dict[str, Any], changes: dict[str, Any], expected: str
) -> None:
    """An attacker who knows the password could create such deployments."""
    folder = served.home.parent
    other = {
        "name": "planted",
        "flow_id": scheduled["flow_id"],
        "entrypoint": scheduled["entrypoint"],
        "path": str(folder / "experiments"),
        "work_pool_name": "kdflow",
        "parameters": scheduled["parameters"],
    }
    changed = json.loads(json.dumps(other | changes).replace("CANARY", f"mkdir {folder / 'canary'}"))
    planted = served.get("deployments/", changed)["id"]
    run = served.get(f"deployments/{planted}/create_flow_run", {})["id"]
    state, message = end_of(served, run)
    served.get(f"deployments/{planted}", method="DELETE")
    assert state == "CRASHED"
    assert expected in message
    assert not (folder / "canary").exists()


def test_a_schedule_without_a_record_allows_no_code(served: Served, scheduled: dict[str, Any]) -> None:
    """An earlier version of kdflow kept the allowed modules in a job variable."""
    record = served.home / "kdflow-schedules" / f"{scheduled['id']}.json"
    assert json.loads(record.read_text()) == {"folder": str(served.home.parent / "experiments"), "allow_code": ["nets"]}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    record.unlink()
    old = {"job_variables": {"env": {"KD_ALLOW_CODE": "nets"}, "working_dir": str(served.home.parent / "experiments")}}
    served.get(f"deployments/{scheduled['id']}", old, method="PATCH")
    run = served.get(f"deployments/{scheduled['id']}/create_flow_run", {})["id"]
    state, message = end_of(served, run)
    assert state == "FAILED"
    assert "the code of nets is not allowed in this schedule. Allowed: none. To allow it: kd schedule FILE" in message


def test_a_form_runs_no_code_of_the_user(served: Served) -> None:
    """Whoever knows Prefect's password can send other parameters than the form has, and can change the deployment."""
    form = served.get("deployments/name/promote/promote")
    start = f"deployments/{form['id']}/create_flow_run"
    state, message = end_of(served, served.get(start, {"parameters": {"dry_run": True, "code": ["evil"]}})["id"])
    assert (state, message.partition(": a run")[0].rpartition("code: ")[2]) == ("FAILED", "evil")
    served.get(f"deployments/{form['id']}", {"entrypoint": "flows.distill.distill"}, method="PATCH")
    evil = Experiment.model_validate(TINY.model_dump(mode="json") | {"student": EVIL_STUDENT})
    parameters = {"experiment": evil.model_dump(mode="json")}
    state, message = end_of(served, served.get(start, {"parameters": parameters})["id"])
    assert state == "FAILED"
    assert not (served.home.parent / "canary").exists()


@pytest.mark.usefixtures("beside")
def test_sigterm_leaves_nothing_behind(served: Served) -> None:
    """This test must be the last of the served `kd up`. An interrupted run must not stay RUNNING in MLflow."""
    with contextlib.chdir(served.home.parent / "experiments"):
        create_schedule(TINY.model_copy(update={"seed": 1}), every=5, allow_code=NETS_ALONE)
    until(lambda: served.runs("comparison")[:1] == ["RUNNING"])
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(90) == 0
    assert served.processes() == []
    assert not (served.home / "kdflow-server.json").exists()
    assert served.runs("comparison")[0] in ("KILLED", "FINISHED")
    assert "RUNNING" not in served.runs("comparison") + served.runs("teacher") + served.runs("student")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.mark.usefixtures("alone")
def test_a_taken_port_is_named_with_its_option() -> None:
    with server.bind(0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port {port} cannot be used .* choose another with --port$"):
            up(UpOptions(port, free_port()))
        with pytest.raises(UserError, match=rf"^port {port} cannot be used .* choose another with --mlflow-port$"):
            up(UpOptions(free_port(), port))
    with pytest.raises(UserError, match=r"Choose another port for one of them$"):
        up(UpOptions(port, port))


@pytest.mark.usefixtures("alone")
def test_up_is_refused_if_other_commands_would_use_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://team.example/api")
    with pytest.raises(UserError, match=r"names http://team\.example/api: unset it"):
        up(UpOptions(free_port(), free_port()))
