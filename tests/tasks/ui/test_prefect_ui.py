"""Whether a Prefect server has the new UI. The first test is the contract with the installed version of Prefect."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastapi.testclient import TestClient
from prefect.server.api.server import create_ui_app

from tasks.ui.prefect_ui import has_new_ui


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """Serve this answer to `GET /ui-settings`, and 404 to other requests. Yield the address of the API."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/ui-settings"
            self.send_response(status if found else 404)
            self.end_headers()
            self.wfile.write(body if found else b"")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_prefect_says_that_it_serves_the_new_ui_and_serves_its_page_without_a_login() -> None:
    with TestClient(create_ui_app(ephemeral=False), base_url="http://127.0.0.1:4200") as client:
        settings = client.get("/ui-settings")
        page = client.get("/v2/runs/flow-run/0", headers={"Accept": "text/html"})
    with answering(settings.content) as url:
        assert has_new_ui(url)
    assert page.status_code == 200
    assert "/v2/" in page.text


@pytest.mark.parametrize(
    ("body", "status"), [(b'{"v2_base_url": null}', 200), (b'{"api_url": "x"}', 200), (b"[]", 200), (b"<p>no</p>", 404)]
)
def test_other_answers_mean_the_old_ui(body: bytes, status: int) -> None:
    with answering(body, status) as url:
        assert not has_new_ui(url)


def test_a_server_that_does_not_answer_has_no_new_ui() -> None:
    with answering(b"") as url:
        pass
    assert not has_new_ui(url)
