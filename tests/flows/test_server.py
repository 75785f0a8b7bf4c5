"""Real servers, each command in a process of its own, as `kd` starts them."""

import base64
import contextlib
import http.server
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flows import server
from flows.processes import spawn, stop
from kdmodels.errors import UserError

RUN_A_FLOW = """
from flows.server import running_server
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
from flows.server import running_server
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
    """The command lines of all processes that were started with this PREFECT_HOME."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            if f"PREFECT_HOME={home}".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text().replace("\0", " "))
    return found


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Path:
    """A Prefect home that has been used before."""
    home = tmp_path_factory.mktemp("used") / "prefect"
    shutil.copytree(prefect_home, home)
    return home


@pytest.fixture(autouse=True)
def settings_as_before() -> Iterator[None]:
    """Other tests of this process have a server, which Prefect must find again once the environment is as it was."""
    yield
    server.refresh_settings()


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for name in (
        "PREFECT_API_URL",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def answering() -> Iterator[str]:
    """The API address of something that answers, with an error."""

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    listening = http.server.HTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/api"
    listening.shutdown()
    listening.server_close()


def test_nothing_heavy_is_imported() -> None:
    listing = (
        "import sys, flows.server; print([m for m in ('prefect', 'torch', 'mlflow', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.fault
def test_two_first_commands_at_once_keep_their_records_in_one_database(tmp_path: Path) -> None:
    both = [command(RUN_A_FLOW, tmp_path), command(RUN_A_FLOW, tmp_path, PREFECT_LOGGING_LEVEL="INFO")]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0].startswith("[0, 2, 4] http://127.0.0.1:"), outputs[0]  # and nothing of Prefect's
    assert len(outputs[0].splitlines()) == 1
    assert "Beginning flow run" in outputs[1]  # a user's own setting wins
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        flows = database.execute("select state_type from flow_run").fetchall()
        tasks = database.execute("select state_type from task_run").fetchall()
    assert flows == [("COMPLETED",)] * 2
    assert tasks == [("COMPLETED",)] * 6
    assert processes(tmp_path) == []


def test_the_server_ends_when_its_command_is_killed(home: Path) -> None:
    process = command(WAIT, home)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert server.answers(url)
    process.kill()
    process.wait()
    until(lambda: not processes(home))
    assert not server.answers(url)


def test_ctrl_c_in_the_terminal_leaves_the_server_until_the_command_is_done(home: Path) -> None:
    closing = WAIT.replace(  # the line that is waited for stands inside the try
        "    print(running.url, flush=True)\n    time.sleep(100)",
        "    try:\n        print(running.url, flush=True)\n        time.sleep(100)\n"
        "    except KeyboardInterrupt: time.sleep(1)",
    )
    assert closing != WAIT
    process = command(closing + "\n    from flows.server import answers\n    print(answers(running.url))", home)
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "True\n"
    assert processes(home) == []


def test_a_forked_process_does_not_keep_a_server_from_being_stopped() -> None:
    """It would hold open the pipe whose end says that the command has ended."""
    process = spawn([sys.executable, "-c", "import time; time.sleep(1000)"], log=subprocess.DEVNULL)
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    worker.start()
    try:
        stop(process)  # which raises where nothing ends
        assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()


def test_a_server_that_dies_at_its_start_says_why_in_one_line(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:////no/such/folder/prefect.db")
    with pytest.raises(UserError, match="temporary Prefect server stopped at its start") as caught:  # noqa: SIM117
        with server.running_server() as running:
            running.wait_ready()
    assert "unable to open database file" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_that_is_set_is_used_as_it_is(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering)
    with server.running_server() as running:
        running.wait_ready()
        assert running == server.Server(answering)


def test_the_active_profile_counts_like_the_environment(no_server: Path, answering: str) -> None:
    profiles = f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{answering}"\n[profiles.other]\n'
    (no_server / "profiles.toml").write_text(profiles)
    with server.running_server() as running:
        assert running == server.Server(answering)


def test_a_server_that_is_set_but_away_is_named(no_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.bind(0) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        with server.running_server() as running, pytest.raises(UserError, match=f"no Prefect server answers at {url}"):
            running.wait_ready()


def test_the_server_of_kd_up_is_used_for_the_block(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.state_file().write_text(json.dumps({"url": answering, "auth": "kdflow:secret", "pid": "1"}))
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "of:another-server")
    with server.running_server() as running:
        assert running == server.Server(answering)
        assert os.environ["PREFECT_API_URL"] == answering
        assert os.environ["PREFECT_API_AUTH_STRING"] == "kdflow:secret"
    assert "PREFECT_API_URL" not in os.environ
    assert os.environ["PREFECT_API_AUTH_STRING"] == "of:another-server"


def test_the_server_of_kd_up_is_also_used_by_its_address(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.state_file().write_text(json.dumps({"url": answering, "auth": "kdflow:secret", "pid": "1"}))
    monkeypatch.setenv("PREFECT_API_URL", answering)
    with server.running_server() as running:
        assert running == server.Server(answering)
        assert os.environ["PREFECT_API_AUTH_STRING"] == "kdflow:secret"
    assert "PREFECT_API_AUTH_STRING" not in os.environ
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "of:mine")
    with server.running_server():
        assert os.environ["PREFECT_API_AUTH_STRING"] == "of:mine"


def test_a_users_own_server_keeps_its_own_password(
    no_server: Path, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering)
    with server.running_server():
        assert "PREFECT_API_AUTH_STRING" not in os.environ
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:secret")
    with server.running_server():
        assert os.environ["PREFECT_API_AUTH_STRING"] == "ann:secret"


@pytest.mark.parametrize("place", ["environment", "profile"])
def test_a_password_that_the_user_has_set_for_servers_is_kept(
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
    assert not server.auth_file().exists()


def test_what_a_killed_kd_up_has_left_does_not_count(no_server: Path, answering: str) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    server.state_file().write_text(json.dumps({"url": answering, "pid": str(ended.pid)}))
    assert server.up_state() is None  # though another program answers at its port by now
    with server.bind(0) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
        server.state_file().write_text(json.dumps({"url": url, "pid": "1"}))
        assert server.up_state() is None


def test_a_listener_that_does_not_speak_http_is_no_server() -> None:
    def speak() -> None:
        connection = listener.accept()[0]
        connection.recv(1000)
        connection.sendall(b"220 mail\r\n")
        connection.close()

    with server.bind(0) as listener:
        listener.listen()
        threading.Thread(target=speak, daemon=True).start()
        assert not server.answers(f"http://127.0.0.1:{listener.getsockname()[1]}/api")


def test_a_taken_port_is_named_with_its_option(answering: str) -> None:
    port = int(answering.split(":")[2].removesuffix("/api"))
    with pytest.raises(UserError, match=rf"port {port} cannot be used .*: choose another with --mlflow-port"):
        server.bind(port, option="--mlflow-port")
