"""A server that kdflow starts serves its owner's programs with the password, but no web page and no other user."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from flows.services import prefect_server as server
from flows.services.prefect_internals.client import refresh_settings

EVIL = "http://evil.example"
BODY = json.dumps({"name": "planted"})
AS_NOBODY = """
import encodings.idna, glob, http.client, os, sys, urllib.request, urllib.error
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
url, home, password = sys.argv[1], sys.argv[2], sys.stdin.read()
readable = []
for path in glob.glob("/proc/[0-9]*/*"):
    if path.rpartition("/")[2] in ("cmdline", "environ"):
        try:
            readable += [path] if password in open(path, errors="replace").read() else []
        except OSError:
            pass
for path in (home, home + "/kdflow-password", home + "/prefect.db"):
    try:
        open(path).close()
        readable.append(path)
    except PermissionError:
        pass
request = urllib.request.Request(url + "/flows/", b'{"name": "planted"}', {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request).status, readable)
except urllib.error.HTTPError as error:
    print(error.code, readable)
"""


@dataclass(frozen=True)
class Guarded:
    """Address and password of a temporary server, and its Prefect home."""

    url: str
    auth: str
    home: Path

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].removesuffix("/api"))

    @property
    def login(self) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(self.auth.encode()).decode()}"}

    def post(self, headers: dict[str, str], body: str = BODY) -> int:
        """Request a new flow with these headers. Return the status."""
        return httpx.post(f"{self.url}/flows/", content=body, headers=headers).status_code


@pytest.fixture(scope="module")
def guarded(prefect_home: Path) -> Iterator[Guarded]:
    """Provide a server whose home is in a folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    home = folder / "prefect"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
            patch.delenv(name, raising=False)
        with server.running_server() as running:
            running.wait_ready()
            yield Guarded(running.url, os.environ["PREFECT_API_AUTH_STRING"], home)
    refresh_settings()
    shutil.rmtree(folder)


def test_the_owner_may_use_the_server(guarded: Guarded) -> None:
    assert guarded.post({**guarded.login, "Content-Type": "application/json"}) == 201
    assert guarded.post({**guarded.login, "Content-Type": "application/json; charset=utf-8"}) == 200
    own = {"Origin": f"http://127.0.0.1:{guarded.port}", "Content-Type": "application/json"}
    assert guarded.post({**guarded.login, **own}) == 200
    assert (
        httpx.delete(f"{guarded.url}/flows/{'0' * 32}", headers=guarded.login).status_code == 404
    )  # a request without a body
    assert httpx.get(f"{guarded.url}/health").status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [{}, {"Authorization": "Basic a2RmbG93Og=="}, {"Authorization": "Bearer kdflow"}, {"Authorization": "kdflow"}],
)
def test_without_the_password_nothing_can_be_read_or_changed(guarded: Guarded, wrong: dict[str, str]) -> None:
    assert guarded.post({**wrong, "Content-Type": "application/json"}) == 401
    for path in ("/deployments/filter", "/work_pools/filter", "/block_documents/filter"):
        assert httpx.post(f"{guarded.url}{path}", json={}, headers=wrong).status_code == 401
    assert httpx.patch(f"{guarded.url}/work_pools/kdflow", json={}, headers=wrong).status_code == 401
    assert httpx.get(f"{guarded.url}/admin/settings", headers=wrong).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused_even_with_the_password(guarded: Guarded, host: str) -> None:
    assert guarded.post({**guarded.login, "Content-Type": "application/json", "Host": host}) in (400, 403)
    assert httpx.get(f"{guarded.url}/health", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "file://"])
def test_a_foreign_page_is_refused_even_with_the_password(guarded: Guarded, origin: str) -> None:
    headers = {**guarded.login, "Content-Type": "application/json", "Origin": origin.format(port=guarded.port)}
    assert guarded.post(headers) == 403
    preflight_headers = {
        **headers,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = httpx.options(f"{guarded.url}/flows/", headers=preflight_headers)
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers


def test_only_the_servers_own_pages_may_send_requests_from_another_name(guarded: Guarded) -> None:
    own = f"http://localhost:{guarded.port}"
    preflight_headers = {
        "Origin": own,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = httpx.options(f"{guarded.url}/flows/", headers=preflight_headers)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, own)


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"],
)
def test_a_body_that_a_foreign_page_may_send_without_permission_is_refused(
    guarded: Guarded, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert guarded.post({**guarded.login, **headers}) == 415


def test_a_form_without_a_length_is_refused(guarded: Guarded) -> None:
    sent = httpx.post(f"{guarded.url}/flows/", content=iter([BODY.encode()]), headers=guarded.login)
    assert sent.request.headers["Transfer-Encoding"] == "chunked"
    assert sent.status_code == 415


@pytest.mark.parametrize("path", ["logs/out", "events/out", "events/in"])
def test_websockets_accept_the_password_and_refuse_foreign_pages(guarded: Guarded, path: str) -> None:
    url = f"ws://127.0.0.1:{guarded.port}/api/{path}"
    with connect(url, subprotocols=["prefect"], proxy=None) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": guarded.auth}))
        assert json.loads(socket.recv(timeout=30)) == {"type": "auth_success"}
    with connect(url, subprotocols=["prefect"], proxy=None) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": "kdflow:wrong"}))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
    for forged in ({"Origin": EVIL}, {"Origin": "null"}):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, subprotocols=["prefect"], additional_headers=forged, proxy=None)  # type: ignore[list-item]
        assert refused.value.response.status_code == 403


def test_only_the_owner_may_read_the_servers_files(guarded: Guarded) -> None:
    assert stat.S_IMODE(guarded.home.stat().st_mode) == 0o700
    files = [path for path in guarded.home.rglob("*") if path.is_file()]
    assert {"prefect.db", "kdflow-password"} <= {path.name for path in files}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == dict.fromkeys(
        [path.name for path in files], "0o600"
    )


def test_another_user_can_neither_use_the_server_nor_find_the_password(guarded: Guarded) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    done = subprocess.run(
        [sys.executable, "-I", "-c", AS_NOBODY, guarded.url, str(guarded.home)],
        input=guarded.auth.partition(":")[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "401 []\n", done.stderr
