"""Who can read and change what on the MLflow server of `kd up` and `kd ui`, with and without a login."""

import contextlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from tasks import tracking

SERVE = "import sys; from flows.services.mlflow_server import ui; ui(int(sys.argv[1]), login=sys.argv[2] == 'login')"
NAME_RUNS = """
from tasks import tracking
tracking.configure()
print(sorted(run.name for run in tracking.runs()))
"""


@dataclass(frozen=True)
class Served:
    """A server of a store. The store has one run with the artifact one/a.txt. A secret file lies beside the store."""

    address: str
    store: str
    folder: Path
    run: str
    environment: dict[str, str]

    def call(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send a request to MLflow's API: GET, or POST if there is a body."""
        url = f"{self.address}/api/2.0/mlflow/{path}"
        if body is None:
            return httpx.get(url, timeout=60, **options)
        return httpx.post(url, json=body, timeout=60, **options)

    def file(self, run: str, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.address}/get-artifact", params={"run_id": run, "path": path}, timeout=60, **options)

    @property
    def secret(self) -> Path:
        return self.folder / "outside" / "id_rsa"


@contextlib.contextmanager
def serve(folder: Path, store: str, run: str, login: str, *, terminal: int | None = None) -> Iterator[Served]:
    """Run a server until the block ends. The server writes to a log file, or to a terminal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_TRACKING", "KD_"))}
    environment |= {
        "MLFLOW_TRACKING_URI": store,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PREFECT_HOME": str(folder / "prefect"),
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port), login], env=environment, cwd=folder, stderr=terminal or log
        )
    served = Served(f"http://127.0.0.1:{port}", store, folder, run, environment)
    try:
        deadline = time.monotonic() + 120
        while not answers(served.address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield served
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def filled(folder: Path, new_store: Callable[[Path], str]) -> tuple[str, str]:
    """Create a store with one run. Return its URI and the run's id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_store(folder / "mlruns"))
        store = tracking.configure()
        run = tracking.start("digits", "kd", "student")
        tracking.log_text(run, "one/a.txt", "content")
        tracking.end(run, "FINISHED")
    (folder / "outside").mkdir()
    (folder / "outside" / "id_rsa").write_text("SECRET")
    return store, run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Iterator[Served]:
    """Provide a server without a login."""
    folder = tmp_path_factory.mktemp("served")
    with serve(folder, *filled(folder, new_store), "open") as served:
        yield served


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Iterator[Served]:
    """Provide a server with a login."""
    folder = tmp_path_factory.mktemp("guarded")
    with serve(folder, *filled(folder, new_store), "login") as served:
        yield served


def test_the_artifacts_of_the_store_are_served(served: Served) -> None:
    assert served.file(served.run, "one/a.txt").text == "content"
    assert served.call("artifacts/list", params={"run_id": served.run}).json()["files"][0]["path"] == "one"
    proxied = f"{served.address}/api/2.0/mlflow-artifacts/artifacts/through/b.txt"
    assert httpx.put(proxied, content=b"through").status_code == 200
    assert httpx.get(proxied).text == "through"
    assert (served.folder / "mlruns" / "artifacts" / "through" / "b.txt").read_text() == "through"


@pytest.mark.parametrize("field", ["artifact_location", "artifactLocation"])
@pytest.mark.parametrize(
    "location",
    ["file://{outside}", "{outside}", "file://{inside}/../../outside", "outside", "s3://bucket/x", "ftp://127.0.0.1/x"],
)
def test_an_experiment_whose_artifacts_lie_outside_the_store_is_refused(
    served: Served, field: str, location: str
) -> None:
    place = location.format(outside=served.secret.parent, inside=served.folder / "mlruns" / "artifacts")
    for path in ("api/2.0", "ajax-api/2.0"):
        url = f"{served.address}/{path}/mlflow/experiments/create"
        body = {"name": "planted", field: place}
        assert httpx.post(url, json=body).status_code == 400
        assert httpx.post(url, json=json.dumps(body)).status_code == 400  # old clients encode twice
    assert MlflowClient(served.store).get_experiment_by_name("planted") is None


def test_an_experiment_within_the_store_is_created(served: Served) -> None:
    inside = served.folder / "mlruns" / "artifacts" / "more"
    for name, place in {"more": inside.as_uri(), "proxied": "mlflow-artifacts:/more", "default": None}.items():
        body = {"name": name} | ({"artifact_location": place} if place else {})
        made = served.call("experiments/create", body)
        assert made.status_code == 200, made.text


def test_artifacts_outside_the_store_are_not_served(served: Served) -> None:
    """An experiment may have been created while this server did not run."""
    client = MlflowClient(served.store)
    (served.folder / "link").symlink_to(served.secret.parent)
    for name, place in {"outside": served.secret.parent, "linked": served.folder / "link"}.items():
        run = client.create_run(client.create_experiment(name, place.as_uri())).info.run_id
        (served.secret.parent / run / "artifacts").mkdir(parents=True)
        (served.secret.parent / run / "artifacts" / "id_rsa").write_text("SECRET")
        refused = served.file(run, "id_rsa")
        assert refused.status_code == 400
        assert "SECRET" not in refused.text
        assert served.call("artifacts/list", params={"run_id": run}).status_code == 400
        upload = f"{served.address}/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=planted.txt"
        assert httpx.post(upload, content=b"planted").status_code == 400
        assert not list(served.secret.parent.rglob("planted.txt"))


def test_links_out_of_the_store_are_not_followed(served: Served) -> None:
    artifacts = served.folder / "mlruns" / "artifacts" / "digits" / served.run / "artifacts"
    (artifacts / "file").symlink_to(served.secret)
    (artifacts / "folder").symlink_to(served.secret.parent)
    for path in ("file", "folder/id_rsa", "one/../folder/id_rsa", "../../../../../outside/id_rsa", str(served.secret)):
        answer = served.file(served.run, path)
        assert answer.status_code in (400, 404), path
        assert "SECRET" not in answer.text
    listed = served.call("artifacts/list", params={"run_id": served.run, "path": "folder"})
    assert "id_rsa" not in listed.text
    for path in ("..%2F..%2Foutside%2Fid_rsa", "digits/%2E%2E/%2E%2E/%2E%2E/outside/id_rsa", "%2Fetc%2Fpasswd"):
        answer = httpx.get(f"{served.address}/api/2.0/mlflow-artifacts/artifacts/{path}")
        assert answer.status_code in (400, 404), path
    for link in ("file", "folder"):
        (artifacts / link).unlink()


def test_a_model_version_from_outside_the_store_is_not_served(served: Served) -> None:
    assert served.call("registered-models/create", {"name": "planted"}).status_code == 200
    for source in (served.secret.parent.as_uri(), str(served.secret.parent)):
        made = served.call("model-versions/create", {"name": "planted", "source": source})
        assert made.status_code == 400
    version = MlflowClient(served.store).create_model_version("planted", served.secret.parent.as_uri()).version
    url = f"{served.address}/model-versions/get-artifact"
    answer = httpx.get(url, params={"name": "planted", "version": version, "path": "id_rsa"})
    assert answer.status_code == 400
    assert "SECRET" not in answer.text


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "10.evil.example"},  # MLflow's own patterns for private networks accept these three
    {"Host": "192.168.evil.example"},
    {"Host": "localhost:evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},  # another program on this machine
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_foreign_hosts_and_pages_are_refused(served: Served, headers: dict[str, str], content_type: str) -> None:
    for path in ("api/2.0", "ajax-api/2.0"):
        url = f"{served.address}/{path}/mlflow/experiments/create"
        body = json.dumps({"name": "planted"})
        assert httpx.post(url, content=body, headers=headers | {"Content-Type": content_type}).status_code == 403
    assert httpx.get(f"{served.address}/", headers=headers).status_code == 403
    assert MlflowClient(served.store).get_experiment_by_name("planted") is None


@pytest.mark.parametrize(
    "path",
    ["ajax-api/3.0/mlflow/assistant/config", "api/2.0/mlflow/webhooks", "gateway/x/mlflow/invocations"],
)
def test_parts_that_run_commands_or_send_requests_are_off(served: Served, path: str) -> None:
    assert httpx.get(f"{served.address}/{path}").status_code == 403
    assert httpx.put(f"{served.address}/{path}", json={}).status_code == 403


def poison(served: Served, **options: Any) -> list[int]:
    """Register a model version that the owner did not create, and set it as the champion."""
    uri = MlflowClient(served.store).get_run(served.run).info.artifact_uri
    version = {"name": "poisoned", "source": f"{uri}/one", "run_id": served.run}
    alias = {"name": "poisoned", "alias": "champion", "version": "1"}
    return [
        served.call("registered-models/create", {"name": "poisoned"}, **options).status_code,
        served.call("model-versions/create", version, **options).status_code,
        served.call("registered-models/alias", alias, **options).status_code,
    ]


def test_with_a_login_only_the_owner_reads_models_and_sets_champions(guarded: Served) -> None:
    password = (guarded.folder / "prefect" / "kdflow-mlflow-password").read_text()
    for wrong in ({}, {"auth": ("admin", "password1234")}, {"auth": ("admin", "")}):
        assert poison(guarded, **wrong) == [401, 401, 401]
        assert guarded.file(guarded.run, "one/a.txt", **wrong).status_code == 401
        proxied = f"{guarded.address}/api/2.0/mlflow-artifacts/artifacts/planted.txt"
        assert httpx.put(proxied, content=b"planted", **wrong).status_code == 401
        user = {"username": "eve", "password": "password1234"}
        assert guarded.call("users/create", user, **wrong).status_code == 401
        assert guarded.call("experiments/search", {"max_results": 1}, **wrong).status_code == 401
    assert MlflowClient(guarded.store).search_registered_models() == []
    assert guarded.file(guarded.run, "one/a.txt", auth=("admin", password)).text == "content"
    assert poison(guarded, auth=("admin", password)) == [200, 200, 200]
    refused = {"name": "elsewhere", "artifact_location": "file:///etc"}
    assert guarded.call("experiments/create", refused, auth=("admin", password)).status_code == 400
    foreign = {"Host": "evil.example"}
    assert (
        guarded.call("experiments/search", {"max_results": 1}, auth=("admin", password), headers=foreign).status_code
        == 403
    )


def test_kd_logs_in_by_itself_to_a_running_server(guarded: Served) -> None:
    environment = guarded.environment | {"MLFLOW_TRACKING_URI": guarded.address}
    done = subprocess.run([sys.executable, "-c", NAME_RUNS], env=environment, capture_output=True, text=True)
    assert done.stdout == "['kd']\n", done.stderr
    other = environment | {"XDG_CACHE_HOME": str(guarded.folder / "another-user")}
    done = subprocess.run([sys.executable, "-c", NAME_RUNS], env=other, capture_output=True, text=True)
    assert "refused us (HTTP 401)" in done.stderr
    port = guarded.address.rpartition(":")[2]
    announcement = guarded.folder / "cache" / "kdflow" / "servers" / f"mlflow-{port}.json"
    content = announcement.read_text()
    ended = subprocess.Popen(["true"])
    ended.wait()
    announcement.write_text(json.dumps(json.loads(content) | {"pid": ended.pid}))
    done = subprocess.run([sys.executable, "-c", NAME_RUNS], env=environment, capture_output=True, text=True)
    announcement.write_text(content)
    assert "refused us (HTTP 401)" in done.stderr  # another program may use the port by now


def test_only_the_owner_may_read_the_login(guarded: Served) -> None:
    password = (guarded.folder / "prefect" / "kdflow-mlflow-password").read_text()
    assert password not in (guarded.folder / "log").read_text()  # not a terminal
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            line = path.read_text(errors="replace")
            assert password not in line
            assert guarded.store not in line  # the URI of a database store may hold a password
    private = ["mlruns/mlflow-login.db", "mlruns/mlflow-login.ini", "prefect/kdflow-mlflow-password"]
    private += [str(path.relative_to(guarded.folder)) for path in (guarded.folder / "cache/kdflow/servers").iterdir()]
    for name in private:
        assert stat.S_IMODE((guarded.folder / name).stat().st_mode) == 0o600, name
    for path in guarded.folder.rglob("*"):
        is_login = path.suffix in (".json", "") and path.name.startswith(("mlflow-", "kdflow-mlflow"))
        if path.is_file() and not is_login:
            assert password.encode() not in path.read_bytes(), path


@pytest.mark.fault  # starts another server
def test_the_password_is_shown_in_a_terminal(tmp_path: Path, new_store: Callable[[Path], str]) -> None:
    controller, terminal = pty.openpty()
    with serve(tmp_path, *filled(tmp_path, new_store), "login", terminal=terminal) as served:
        password = (tmp_path / "prefect" / "kdflow-mlflow-password").read_text()
        shown = os.read(controller, 10_000).decode()
        assert f"MLflow   {served.address}  user admin, password {password}\r\n" in shown
    os.close(controller)
    os.close(terminal)


@pytest.mark.fault  # starts two more servers
def test_a_new_password_replaces_the_stored_password(tmp_path: Path, new_store: Callable[[Path], str]) -> None:
    store, run = filled(tmp_path, new_store)
    statuses = []
    for _ in range(2):
        with serve(tmp_path, store, run, "login") as served:
            file = tmp_path / "prefect" / "kdflow-mlflow-password"
            password = file.read_text()
            statuses.append(served.file(run, "one/a.txt", auth=("admin", password)).status_code)
            file.unlink()
    assert statuses == [200, 200]
