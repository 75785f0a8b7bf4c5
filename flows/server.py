"""Which Prefect server a command talks to: the user's own, the one that `kd up` runs, or a temporary one.

Nothing here imports prefect before `_serve`, so that the server starts while the caller imports torch.
Prefect's own temporary server is not used: it begins with the flow, when all is imported, and stays when a command is
killed.
"""

import base64
import contextlib
import gc
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flows.credentials import read_or_create
from flows.processes import spawn, stop
from kdmodels.errors import UnavailableError, UserError, redacted
from kdmodels.garbage import uncollected
from kdmodels.redaction import shown_address
from tasks.same_origin import own_origins, same_origin_only

START_SECONDS = 120  # a first start migrates the database: seconds on an idle machine, many more on a busy one
BUSY_SECONDS = 10  # how long a server whose process is there may take to answer

QUIET = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}
# Ready-made blocks are for the UI, which a temporary server has not. One that has it must not take them for registered.
NO_BLOCKS = {"PREFECT_API_BLOCKS_REGISTER_ON_START": "false", "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false"}


@dataclass(frozen=True)
class Server:
    """A server that was asked for: its API's address, and its process and log where it is a temporary one."""

    url: str
    process: subprocess.Popen[bytes] | None = None
    log: IO[bytes] | None = None

    def ready(self) -> bool:
        """Whether it answers."""
        return answers(self.url)

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once the server answers.

        Raises:
            UnavailableError: it cannot be reached, has died, does not answer in time, or refuses the user's password;
                with a temporary one's last words.
        """
        deadline = time.monotonic() + (seconds if self.process else 5)
        while not self.ready():
            if self.process is None and time.monotonic() > deadline:
                raise UnavailableError(
                    f"no Prefect server answers at {redacted(self.url)}, which PREFECT_API_URL or the profile names"
                )
            if self.process and self.process.poll() is not None:
                raise UnavailableError(f"the temporary Prefect server stopped at its start: {self._last_words()}")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the temporary Prefect server is not ready after {seconds:g} s: {self._last_words()}"
                )
            time.sleep(0.05)
        if self.process is None and (status := _refusal(self.url)):
            raise UnavailableError(
                f"the Prefect server at {redacted(self.url)} refused us (HTTP {status}); set PREFECT_API_AUTH_STRING "
                "to its user:password, in the environment or the profile"
            )

    def _last_words(self) -> str:
        if self.log is None:
            return "it says why above"
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
        return (errors or lines or ["its log is empty"])[-1]


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Provide a server while the block runs, with its address and password in the environment for child processes.

    The first of these is used: the server that PREFECT_API_URL or the active profile names, with the user's own
    PREFECT_API_AUTH_STRING; the server of a `kd up` on this machine; a temporary server on a free loopback port. A
    temporary server ends with the block, and with this process however that ends.
    The block does not wait for the server: import what is heavy, then call `wait_ready()`. Enter it before prefect is
    first imported. A `PREFECT_API_URL` in a `prefect.toml` or `.env` of the working folder is ignored.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    prefect_home().mkdir(mode=0o700, parents=True, exist_ok=True)  # else Prefect creates it, readable by everyone
    url, state = configured_url(), up_state()
    if state and url in (None, state["url"]):
        url, auth = state["url"], (url and setting("PREFECT_API_AUTH_STRING")) or state["auth"]
        with _client_settings({"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": auth}), _sending_the_rest(url):
            yield Server(url)
        return
    if url:
        with _sending_the_rest(url):
            yield Server(url)
        return
    with tempfile.TemporaryFile() as log:
        listener = bind(0)
        auth = auth_string()
        process, url = start_server(listener, auth, ephemeral=True, log=log)
        try:
            with _client_settings({"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": auth}), _sending_the_rest(url):
                yield Server(url, process, log)
        finally:
            stop(process)


@contextlib.contextmanager
def _sending_the_rest(url: str) -> Iterator[None]:
    """Logs and events go to the server in the background: as the block ends what waits is sent, if the server answers.

    Before it stops, for Prefect would complain at exit; and before this process ends, perhaps without more ado.
    """
    try:
        yield
    finally:
        if "prefect.events.worker" in sys.modules and answers(url):
            from prefect.events.worker import EventsWorker
            from prefect.logging.handlers import APILogWorker

            APILogWorker.drain_all(timeout=5)
            EventsWorker.drain_all(timeout=5)


@contextlib.contextmanager
def _client_settings(values: dict[str, str]) -> Iterator[None]:
    """Set these variables for this process and its children while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    refresh_settings()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        refresh_settings()


def refresh_settings() -> None:
    """Prefect reads its settings when it is imported; where that has happened, let it read them again."""
    if "prefect.context" in sys.modules:
        sys.modules["prefect.context"].refresh_global_settings_context()


def prefect_home() -> Path:
    """Prefect's folder, where its database is: PREFECT_HOME, or ~/.prefect."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()


def configured_url() -> str | None:
    """The server that the user has set: PREFECT_API_URL, or that of the active Prefect profile.

    Raises:
        UserError: it is no address.
    """
    url = setting("PREFECT_API_URL")
    if url and not url.startswith(("http://", "https://")):
        raise UserError(
            f"PREFECT_API_URL: {shown_address(url)!r} is not the address of a server; allowed: http://HOST:PORT/api"
        )
    return url


def setting(name: str) -> str | None:
    """Return a Prefect setting of the user's: an environment variable, or a line of the active Prefect profile."""
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    profiles = tomllib.loads(path.read_text()) if path.is_file() else {}
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    return os.environ.get(name) or profiles.get("profiles", {}).get(active, {}).get(name)


def auth_string() -> str:
    """Return `user:password` for a server that this process starts: the user's setting, or one generated on first use.

    Raises:
        UserError: another user may read the file with the generated one.
    """
    return setting("PREFECT_SERVER_API_AUTH_STRING") or f"kdflow:{read_or_create(auth_file())}"


def auth_file() -> Path:
    """Return the file with the generated password."""
    return prefect_home() / "kdflow-password"


def state_file() -> Path:
    """Return the file in which `kd up` says how to reach it: a JSON object with `url`, `auth` and `pid`."""
    return prefect_home() / "kdflow-server.json"


def up_state() -> dict[str, str] | None:
    """Return `url`, `auth` and `pid` of this machine's `kd up`, or None if none runs, whatever a killed one left."""
    try:
        state: dict[str, str] = {"auth": "", **json.loads(state_file().read_text())}
    except FileNotFoundError:
        return None
    return state if _runs(int(state["pid"])) and answers(state["url"], BUSY_SECONDS) else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def answers(url: str, seconds: float = 2) -> bool:
    """Return whether a server answers at this API address, be it with a refusal."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):  # nobody there, or somebody who does not speak HTTP
        return False


def _refusal(url: str) -> int | None:
    """Return 401 or 403 if the server refuses the user's password or key; None if it does not, or fails otherwise."""
    headers = {}
    if auth := setting("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    elif key := setting("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/version", headers=headers), timeout=BUSY_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return error.code if error.code in (401, 403) else None
    except (OSError, http.client.HTTPException):
        return None


def bind(port: int, *, option: str = "--port") -> socket.socket:
    """A loopback socket bound to the port (0: any free one), so that nobody else can take it before the server listens.

    Raises:
        UserError: the port is taken; `option` is what the user changes.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise UserError(f"port {port} cannot be used ({error.strerror}): choose another with {option}") from error
    return listener


def start_server(
    listener: socket.socket, auth: str, *, ephemeral: bool, log: IO[bytes] | int
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Prefect server on a bound socket, which it takes over; return its process and its API's address.

    Args:
        auth: the `user:password` that its clients must send.
        ephemeral: without user interface and scheduler.
    """
    with listener:
        port = listener.getsockname()[1]
        mode = "ephemeral" if ephemeral else "persistent"
        command = [sys.executable, "-P", "-m", "flows.server", str(listener.fileno()), mode]
        environment = {
            "PREFECT_SERVER_API_AUTH_STRING": auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own_origins(port)),
            **(NO_BLOCKS if ephemeral else {}),
        }
        process = spawn(command, log=log, env=environment, fds=(listener.fileno(),))
    return process, f"http://127.0.0.1:{port}/api"


def _serve(fd: int, ephemeral: bool) -> None:
    with uncollected():
        import httpx
        import uvicorn
        from filelock import FileLock
        from prefect.server.api.server import create_app

        from flows.prefect_database import create_database

        gc.freeze()
    os.umask(0o077)  # the database is only for its owner

    class OneAtATime(uvicorn.Server):
        """Its start-up migrates the database, which two servers on one database must not do at once."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with FileLock(prefect_home() / "kdflow-server.lock"):
                create_database()
                await super().startup(sockets)
            # The first request that looks through all routes builds them, for half a second: here nobody waits for it.
            probe = httpx.ASGITransport(app, raise_app_exceptions=False)
            token = base64.b64encode(os.environ["PREFECT_SERVER_API_AUTH_STRING"].encode()).decode()
            async with httpx.AsyncClient(transport=probe, headers={"Authorization": f"Basic {token}"}) as client:
                await client.get("http://here/api/none")

    app = create_app(ephemeral=ephemeral, final=True)
    checked = same_origin_only(app, json_below="/api")
    OneAtATime(uvicorn.Config(checked, log_level="error", lifespan="on")).run([socket.socket(fileno=fd)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2] == "ephemeral")
