"""Real servers, with each command in its own process, as `kd` starts them."""

import base64
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flows.services import prefect_server as server
from flows.services.prefect_health import answers
from flows.services.prefect_settings import auth_file
from flows.services.up_state import UpState, announced, only_up
from kdmodels.errors import UserError

RUN_A_FLOW = """
from flows.services.prefect_server import running_server
with running_server() as running:
    from prefect import flow, task
    running.wait_ready()
    @task
    def double(x):
        return 2 * x
    @flow
    def doubled():
        return [double.submit(i).result() for i in range(3)]
    print(doubled(), running.url, flush=True)
"""
WAIT = """
import time
from flows.services.prefect_server import running_server
with running_server() as running:
    running.wait_ready()
    print(running.url, flush=True)
    time.sleep(100)
"""


def command(script: str, home: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**kept, "PREFECT_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def processes(home: Path) -> list[str]:
    """Return the command lines of all processes with this PREFECT_HOME."""
    command_lines = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            if f"PREFECT_HOME={home}".encode() in (path / "environ").read_bytes():
                command_lines.append((path / "cmdline").read_text().replace("\0", " "))
    return command_lines


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Path:
    """Provide a Prefect home with a database."""
    home = tmp_path_factory.mktemp("used") / "prefect"
    shutil.copytree(prefect_home, home)
    return home


def test_no_slow_module_is_imported() -> None:
    slow_modules = ("prefect", "torch", "mlflow", "pydantic")
    listing = (
        f"import sys, flows.services.prefect_server; print([name for name in {slow_modules} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.fault
def test_two_first_commands_at_once_keep_their_records_in_one_database(tmp_path: Path) -> None:
    both = [command(RUN_A_FLOW, tmp_path), command(RUN_A_FLOW, tmp_path, PREFECT_LOGGING_LEVEL="INFO")]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0].startswith("[0, 2, 4] http://127.0.0.1:"), outputs[0]  # without output of Prefect
    assert len(outputs[0].splitlines()) == 1
    assert "Beginning flow run" in outputs[1]  # the user's setting wins
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        flows = database.execute("select state_type from flow_run").fetchall()
        tasks = database.execute("select state_type from task_run").fetchall()
    assert flows == [("COMPLETED",)] * 2
    assert tasks == [("COMPLETED",)] * 6
    assert processes(tmp_path) == []


@pytest.mark.fault
def test_the_server_ends_if_its_command_is_killed(home: Path) -> None:
    process = command(WAIT, home)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert answers(url)
    process.kill()
    process.wait()
    until(lambda: not processes(home))
    assert not answers(url)


@pytest.mark.fault
def test_after_ctrl_c_the_server_runs_until_the_command_ends(home: Path) -> None:
    closing = WAIT.replace(  # the test waits for the line printed inside the try block
        "    print(running.url, flush=True)\n    time.sleep(100)",
        "    try:\n        print(running.url, flush=True)\n        time.sleep(100)\n"
        "    except KeyboardInterrupt: time.sleep(1)",
    )
    assert closing != WAIT
    process = command(
        closing + "\n    from flows.services.prefect_health import answers\n    print(answers(running.url))", home
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "True\n"
    assert processes(home) == []


def test_a_server_that_fails_to_start_reports_one_line(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/folder/prefect.db")
    with pytest.raises(UserError, match="temporary Prefect server stopped at its start") as error:  # noqa: SIM117
        with server.running_server() as running:
            running.wait_ready()
    assert "unable to open database file" in str(error.value)
    assert "\n" not in str(error.value)
    assert "PREFECT_API_URL" not in os.environ


def test_a_configured_server_is_used(no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering)
    with server.running_server() as running:
        running.wait_ready()
        assert running == server.Server(answering)


def test_the_active_profile_configures_a_server_too(no_server: Path, answering: str) -> None:
    profiles = f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{answering}"\n[profiles.other]\n'
    (no_server / "profiles.toml").write_text(profiles)
    with server.running_server() as running:
        assert running == server.Server(answering)


def test_a_configured_server_that_does_not_answer_is_named(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.bind(0) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        with server.running_server() as running, pytest.raises(UserError, match=f"no Prefect server answers at {url}"):
            running.wait_ready()


def test_the_server_of_kd_up_is_used_for_the_block(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:other-server")
    with only_up(), announced(UpState(url=answering, pid=1, auth="kdflow:secret")), server.running_server() as running:
        assert running == server.Server(answering)
        assert os.environ["PREFECT_API_URL"] == answering
        assert os.environ["PREFECT_API_AUTH_STRING"] == "kdflow:secret"
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["PREFECT_API_AUTH_STRING"] == "ann:other-server"


def test_the_server_of_kd_up_is_used_if_its_address_is_configured(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering)
    with only_up(), announced(UpState(url=answering, pid=1, auth="kdflow:secret")):
        with server.running_server() as running:
            assert running == server.Server(answering)
            assert os.environ["PREFECT_API_AUTH_STRING"] == "kdflow:secret"
        assert "PREFECT_API_AUTH_STRING" not in os.environ
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
        with server.running_server():
            assert os.environ["PREFECT_API_AUTH_STRING"] == "ann:secret"


def test_a_configured_server_keeps_the_users_password(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering)
    with server.running_server():
        assert "PREFECT_API_AUTH_STRING" not in os.environ
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
    with server.running_server():
        assert os.environ["PREFECT_API_AUTH_STRING"] == "ann:secret"


@pytest.mark.parametrize("place", ["environment", "profile"])
def test_a_password_that_the_user_configured_for_servers_is_used(
    place: str, no_server: Path, prefect_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for database in prefect_home.glob("prefect.db*"):
        shutil.copy(database, no_server)
    if place == "environment":
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "ann:secret")
    else:
        profile = 'active = "own"\n[profiles.own]\nPREFECT_SERVER_API_AUTH_STRING = "ann:secret"\n'
        (no_server / "profiles.toml").write_text(profile)
    with server.running_server() as running:
        running.wait_ready()
        assert os.environ["PREFECT_API_AUTH_STRING"] == "ann:secret"
        for password, status in {"ann:secret": 200, "kdflow:secret": 401}.items():
            login = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
            assert httpx.get(f"{running.url}/version", headers=login).status_code == status
        for password in ("", "ann:other"):
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", password)
            with pytest.raises(UserError, match=rf"^the Prefect server at {running.url} refused us \(HTTP 401\); set "):
                server.Server(running.url).wait_ready()
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
        server.Server(running.url).wait_ready()
    assert not auth_file().exists()


def test_a_taken_port_is_named_with_its_option(answering: str) -> None:
    port = int(answering.split(":")[2].removesuffix("/api"))
    with pytest.raises(UserError, match=rf"port {port} cannot be used .*: choose another with --mlflow-port"):
        server.bind(port, option="--mlflow-port")
