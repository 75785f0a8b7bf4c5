"""Fixtures of the services' tests: a Prefect home without a server, and a server that answers with errors."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.services.prefect_internals.client import refresh_settings


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Provide an empty Prefect home, with no server configured."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for name in (
        "PREFECT_API_URL",
        "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING",
        "PREFECT_PROFILE",
        "PREFECT_PROFILES_PATH",
    ):
        monkeypatch.delenv(name, raising=False)
    refresh_settings()
    yield tmp_path
    monkeypatch.undo()
    refresh_settings()  # later tests of this process use the session's server


@pytest.fixture
def answering() -> Iterator[str]:
    """Provide the API address of a server that answers every request with an error."""

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
