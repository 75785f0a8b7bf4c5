"""Who may use a server that kdflow starts: its owner's programs with the password, and no web page or other user."""

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

from flows import server

EVIL = "http://evil.example"
BODY = json.dumps({"name": "planted"})
AS_NOBODY = """
import encodings.idna, glob, http.client, os, sys, urllib.request, urllib.error
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
url, home, password = sys.argv[1], sys.argv[2], sys.stdin.read()
found = []
for path in glob.glob("/proc/[0-9]*/*"):
    if path.rpartition("/")[2] in ("cmdline", "environ"):
        try:
            found += [path] if password in open(path, errors="replace").read() else []
        except OSError:
            pass
for path in (home, home + "/kdflow-password", home + "/prefect.db"):
    try:
        open(path).close()
        found.append(path)
    except PermissionError:
        pass
request = urllib.request.Request(url + "/flows/", b'{"name": "planted"}', {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request).status, found)
except urllib.error.HTTPError as error:
    print(error.code, found)
"""


@dataclass(frozen=True)
class Guarded:
    """A temporary server and what its owner knows of it."""

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
        """Return the status of a request for a new flow with exactly these headers and those of every request."""
        return httpx.post(f"{self.url}/flows/", content=body, headers=headers).status_code


@pytest.fixture(scope="module")
def guarded(prefect_home: Path) -> Iterator[Guarded]:
    """A server whose home lies in a folder that everybody may enter."""
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
    server.refresh_settings()
    shutil.rmtree(folder)


def test_its_owner_may_use_it(guarded: Guarded) -> None:
    assert guarded.post({**guarded.login, "Content-Type": "application/json"}) == 201
    assert guarded.post({**guarded.login, "Content-Type": "application/json; charset=utf-8"}) == 200
    own = {"Origin": f"http://127.0.0.1:{guarded.port}", "Content-Type": "application/json"}
    assert guarded.post({**guarded.login, **own}) == 200
    assert httpx.delete(f"{guarded.url}/flows/{'0' * 32}", headers=guarded.login).status_code == 404  # has no body
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
    asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = httpx.options(f"{guarded.url}/flows/", headers=asked)
    assert preflight.status_code == 403
    assert "access-control-allow-origin" not in preflight.headers


def test_only_its_own_pages_may_ask_from_another_name(guarded: Guarded) -> None:
    own = f"http://localhost:{guarded.port}"
    asked = {"Origin": own, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = httpx.options(f"{guarded.url}/flows/", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, own)


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"],
)
def test_a_body_that_a_page_may_send_unasked_is_refused(guarded: Guarded, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert guarded.post({**guarded.login, **headers}) == 415


def test_a_form_without_a_length_is_refused(guarded: Guarded) -> None:
    sent = httpx.post(f"{guarded.url}/flows/", content=iter([BODY.encode()]), headers=guarded.login)
    assert sent.request.headers["Transfer-Encoding"] == "chunked"
    assert sent.status_code == 415


@pytest.mark.parametrize("path", ["logs/out", "events/out", "events/in"])
def test_websockets_take_the_password_and_no_foreign_page(guarded: Guarded, path: str) -> None:
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


def test_what_it_writes_is_only_its_owners(guarded: Guarded) -> None:
    assert stat.S_IMODE(guarded.home.stat().st_mode) == 0o700
    files = [path for path in guarded.home.rglob("*") if path.is_file()]
    assert {"prefect.db", "kdflow-password"} <= {path.name for path in files}
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == dict.fromkeys(
        [path.name for path in files], "0o600"
    )


def test_another_user_can_neither_use_it_nor_find_the_password(guarded: Guarded) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    done = subprocess.run(
        [sys.executable, "-I", "-c", AS_NOBODY, guarded.url, str(guarded.home)],
        input=guarded.auth.partition(":")[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "401 []\n", done.stderr
