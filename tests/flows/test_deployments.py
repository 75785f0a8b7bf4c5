"""`kd up` and schedules for real: a scheduled run must end as FINISHED in MLflow.

A wrong version of SQLAlchemy is seen here alone: the server answers, and no schedule ever fires.
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

import pytest
from mlflow import MlflowClient

from flows import deployments, server
from flows.deployments import schedule, schedules, unschedule
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Experiment, Schedule

TINY = Experiment.model_validate(
    {
        "name": "tiny",
        "threads": 1,
        "data": {"source": "digits"},
        "teacher": {"network": {"mlp": [16]}, "epochs": 1},
        "student": {"network": "nets:Small", "epochs": 1, "seeds": 1},  # in the folder it was scheduled from
        "variants": ["hard-labels", "kd"],
        "schedule": {"every": 10},
    }
)
NETS = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""
NETS_ALONE = ["nets"]
UP = "import sys; from flows.deployments import up; up(port=int(sys.argv[1]), mlflow_port=int(sys.argv[2]))"


@dataclass(frozen=True)
class Served:
    """A `kd up` that runs, and where everything of it is."""

    process: subprocess.Popen[str]
    home: Path
    environment: dict[str, str]
    port: int
    mlflow_port: int

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def runs(self, kind: str) -> list[str]:
        """The status of each MLflow run of this kind, the newest first."""
        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name("tiny")
        if experiment is None:
            return []
        found = client.search_runs([experiment.experiment_id], filter_string=f"tags.kd.kind = '{kind}'")
        return [run.info.status for run in found]

    def get(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """Ask Prefect's API with the password."""
        auth = json.loads((self.home / "kdflow-server.json").read_text())["auth"]
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}/{path}", data, headers, method=method)
        for _ in range(10):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    content = response.read()
                    return json.loads(content) if content else None
            except urllib.error.HTTPError as error:  # its database is busy: Prefect's own clients ask again too
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                time.sleep(1)
        raise AssertionError(f"{path}: unavailable ten times")

    def processes(self) -> list[str]:
        """The command lines of all processes that were started with this PREFECT_HOME."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                if f"PREFECT_HOME={self.home}".encode() in (path / "environ").read_bytes():
                    found.append((path / "cmdline").read_text().replace("\0", " "))
        return found


def plant_canaries(folder: Path) -> None:
    """Write files of code that leave a folder `canary` beside this one if they are ever run."""
    canary = f"import os\nos.makedirs({str(folder.parent / 'canary')!r}, exist_ok=True)\n"
    flow = "from prefect import flow\n@flow\ndef f(**_): pass\n"
    for name in ("evil.py", "evil_flow.py", "scipy.py", "sitecustomize.py", "flows/__init__.py"):
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
    """This process as a `kd` command with these variables; None: without."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        server.refresh_settings()
        yield
    server.refresh_settings()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Iterator[Served]:
    """A `kd up` with a schedule that was made before it was started."""
    folder = tmp_path_factory.mktemp("up")
    home = folder / "prefect"
    shutil.copytree(prefect_home, home)
    (folder / "tmp").mkdir()
    own = {
        "PREFECT_HOME": str(home),
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "1",
        "TMPDIR": str(folder / "tmp"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "KD_"))} | own
    planned = {"name": "tiny", "active": True}
    scheduled = folder / "experiments"
    scheduled.mkdir()
    (scheduled / "nets.py").write_text(NETS)
    plant_canaries(scheduled)
    variables = {**own, "KD_DATA": "images", "PREFECT_API_URL": None}
    with environment_of(variables), contextlib.chdir(scheduled), server.running_server() as before:
        before.wait_ready()
        with pytest.raises(
            UsageError, match=r"network\.module: the code of nets is not allowed in this schedule; .*none"
        ):
            schedule(TINY, cron="0 3 * * *")
        schedule(TINY, cron="0 3 * * *", timezone="Europe/Berlin", allow_code=NETS_ALONE)
        assert schedules() == [planned | {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "every": None}]
        nightly = TINY.model_copy(update={"schedule": Schedule(cron="0 3 * * *")})
        again = schedule(nightly, timezone="Europe/Berlin", allow_code=NETS_ALONE)
        assert again["timezone"] == "Europe/Berlin"
        schedule(TINY, allow_code=NETS_ALONE)
        assert schedules() == [planned | {"cron": None, "timezone": None, "every": 10}]
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
    until(lambda: not served.processes())  # a killed one, too, leaves nothing behind


@pytest.fixture
def beside(served: Served) -> Iterator[None]:
    """This process as another command of whoever started `kd up`."""
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


def test_its_api_refuses_other_users_and_foreign_pages(served: Served) -> None:
    """In full for the temporary server, in test_server_access.py."""
    json_body = {"Content-Type": "application/json"}
    pools, flows = f"{served.api}/work_pools/filter", f"{served.api}/flows/"
    assert _status(pools, json_body, b"{}") == 401
    assert _status(pools, json_body | {"Host": "evil.example"}, b"{}") == 403
    assert _status(pools, json_body | {"Origin": "http://evil.example"}, b"{}") == 403
    assert _status(flows, {"Content-Type": "text/plain"}, b'{"name": "planted"}') == 415
    assert _status(f"http://127.0.0.1:{served.port}/", {"Host": "evil.example"}) == 403


def test_its_servers_listen_on_this_machine_only(served: Served) -> None:
    for port in (served.port, served.mlflow_port):
        until(lambda port=port: _connects("127.0.0.1", port))
        assert not _connects("127.0.0.2", port)  # as any other address: it would be one of 0.0.0.0


def _connects(address: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0


def test_its_password_is_shown_to_nobody_else(served: Served) -> None:
    password = (served.home / "kdflow-password").read_text()
    state = served.home / "kdflow-server.json"
    assert json.loads(state.read_text())["auth"] == f"kdflow:{password}"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    log = (served.home.parent / "log").read_text()  # not a terminal
    assert password not in log
    assert str(served.home / "kdflow-password") in log
    assert not [line for line in served.processes() if password in line]


def test_prefect_refuses_an_experiment_that_is_not_one(served: Served) -> None:
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
def test_a_second_one_is_refused(served: Served) -> None:
    with pytest.raises(UserError, match=rf"kd up runs already \(process {served.process.pid}, {served.api}\)"):
        deployments.up(port=free_port(), mlflow_port=free_port())


def test_a_scheduled_run_finishes_and_the_next_one_reuses_it(served: Served) -> None:
    until(lambda: served.runs("comparison").count("FINISHED") >= 2, seconds=300)
    assert served.runs("teacher") == ["FINISHED"]
    assert served.runs("student") == ["FINISHED"] * 2
    assert not (served.home.parent / "canary").exists()  # nothing in the schedule's folder shadows a library, or kdflow
    assert not (served.home.parent / "tmp" / "runner_storage").exists()


@pytest.mark.usefixtures("beside")
def test_a_command_finds_its_server_and_deletes_the_schedule(served: Served) -> None:
    assert len(list((served.home / "kdflow-schedules").iterdir())) == 1
    unschedule("tiny")
    assert schedules() == []
    assert not list((served.home / "kdflow-schedules").iterdir())
    with pytest.raises(UserError, match=r"^no schedule 'tiny': there is none$"):
        unschedule("tiny")


@pytest.fixture
def scheduled(served: Served, beside: None) -> Iterator[dict[str, Any]]:
    """A deployment that is not due for long."""
    with contextlib.chdir(served.home.parent / "experiments"):
        schedule(TINY, cron="0 3 1 1 *", allow_code=NETS_ALONE)
    yield served.get("deployments/name/distill/tiny")
    unschedule("tiny")


def evil_parameters(deployment: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = Experiment.model_validate(TINY.model_dump(mode="json") | changes).model_dump(mode="json")
    return {"parameters": deployment["parameters"] | {"experiment": changed}}


def end_of(served: Served, run: str) -> tuple[str, str]:
    """Wait until a flow run has ended; return its state and message."""
    ended = ("COMPLETED", "FAILED", "CRASHED")
    until(lambda: served.get(f"flow_runs/{run}")["state_type"] in ended, seconds=300)
    state = served.get(f"flow_runs/{run}")["state"]
    return state["type"], state["message"] or ""


EVIL_STUDENT = {"network": {"module": "evil:Net"}, "epochs": 1, "seeds": 1}


@pytest.mark.fault
def test_runs_whose_parameters_name_other_code_are_refused(served: Served, scheduled: dict[str, Any]) -> None:
    """As in Prefect's UI, where the parameters of one run can be changed; the code is in the run's own folder."""
    made = {}
    for refused, changes in {
        "evil": {"student": EVIL_STUDENT},
        "./evil.py": {"data": {"source": "./evil.py:load"}},
    }.items():
        path = f"deployments/{scheduled['id']}/create_flow_run"
        made[refused] = served.get(path, evil_parameters(scheduled, **changes))["id"]
    for refused, run in made.items():
        state, message = end_of(served, run)
        assert state == "FAILED"
        assert f"the code of {refused} is not allowed in this schedule; allowed: nets; more by: " in message
    assert not (served.home.parent / "canary").exists()


@pytest.mark.fault
def test_job_variables_and_the_work_pool_change_nothing_of_a_run(served: Served, scheduled: dict[str, Any]) -> None:
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
    time.sleep(5)  # the worker reads the template every second
    path = f"deployments/{scheduled['id']}/create_flow_run"
    changed = evil_parameters(scheduled, student=EVIL_STUDENT) | {"job_variables": variables}
    state, message = end_of(served, served.get(path, changed)["id"])
    assert state == "FAILED"
    assert "the code of evil is not allowed in this schedule; allowed: nets; " in message
    assert not (served.home.parent / "canary").exists()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"entrypoint": "evil_flow.py:f"}, "entrypoint: evil_flow.py:f: this worker runs flows.distill.distill only"),
        ({"entrypoint": "evil_flow.f"}, "entrypoint: evil_flow.f: this worker runs flows.distill.distill only"),
        ({"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "CANARY"}}]}, "pull_steps: "),
    ],
)
def test_deployments_of_other_code_are_refused(
    served: Served, scheduled: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    """Whoever made them has the password."""
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
    assert told in message
    assert not (folder / "canary").exists()


@pytest.mark.fault
def test_a_schedule_without_a_record_allows_no_code(served: Served, scheduled: dict[str, Any]) -> None:
    """As one of an earlier version, whose allow-list was a job variable."""
    record = served.home / "kdflow-schedules" / f"{scheduled['id']}.json"
    assert json.loads(record.read_text()) == {"folder": str(served.home.parent / "experiments"), "allow_code": ["nets"]}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    record.unlink()
    old = {"job_variables": {"env": {"KD_ALLOW_CODE": "nets"}, "working_dir": str(served.home.parent / "experiments")}}
    served.get(f"deployments/{scheduled['id']}", old, method="PATCH")
    run = served.get(f"deployments/{scheduled['id']}/create_flow_run", {})["id"]
    state, message = end_of(served, run)
    assert state == "FAILED"
    assert "the code of nets is not allowed in this schedule; allowed: none; more by: kd schedule FILE" in message


@pytest.mark.usefixtures("beside")
def test_sigterm_leaves_nothing_behind(served: Served) -> None:
    """The last test of the served one: a run that is on its way ends with the truth."""
    with contextlib.chdir(served.home.parent / "experiments"):
        schedule(TINY.model_copy(update={"seed": 1}), every=5, allow_code=NETS_ALONE)
    until(lambda: served.runs("comparison")[:1] == ["RUNNING"])
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
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
            deployments.up(port=port, mlflow_port=free_port())
        with pytest.raises(UserError, match=rf"^port {port} cannot be used .* choose another with --mlflow-port$"):
            deployments.up(port=free_port(), mlflow_port=port)
    with pytest.raises(UserError, match=r"are the same: choose two$"):
        deployments.up(port=port, mlflow_port=port)


@pytest.mark.usefixtures("alone")
def test_up_refuses_to_serve_what_other_commands_would_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://team.example/api")
    with pytest.raises(UserError, match=r"names http://team\.example/api: unset it"):
        deployments.up(port=free_port(), mlflow_port=free_port())


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"cron": "0 3 * *"}, "--cron '0 3 * *' is not one (allowed: five fields, as '0 3 * * *')"),
        ({"cron": "0 3 * * * *"}, "--cron '0 3 * * * *' is not one (allowed: five fields, as '0 3 * * *')"),
        ({"every": 10**15}, f"--every {10**15}: allowed are whole seconds from 1 to 31622400"),
        ({"cron": "0 25 * * *"}, "--cron '0 25 * * *' is not one (allowed: five fields, as '0 3 * * *')"),
        (
            {"cron": "0 3 * * *", "timezone": "Mars"},
            "--timezone 'Mars' is not one (allowed: names as Europe/Berlin)",
        ),
        ({"every": 0}, "--every 0: allowed are whole seconds from 1 to 31622400"),
        ({"every": 5, "timezone": "Europe/Berlin"}, "--timezone Europe/Berlin: allowed with --cron only"),
        ({"every": 5, "cron": "0 3 * * *"}, "a schedule needs one of --cron '0 3 * * *' and --every SECONDS"),
        ({}, "a schedule needs one of --cron '0 3 * * *' and --every SECONDS"),
    ],
)
def test_a_schedule_that_is_none_is_refused_before_anything_is_sent(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        deployments.schedule(TINY.model_copy(update={"schedule": None}), allow_code=NETS_ALONE, **wrong)
    assert str(refused.value) == line
