"""A local HTTP server that receives messages."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """A running receiver and what it has received.

    Attributes:
        address: The address of the server.
        status: The HTTP status of its answers.
        delay: Seconds before an answer.
        documents: The JSON documents.
        paths: The path of each request.
    """

    address: str = ""
    status: int = 200
    delay: float = 0.0
    documents: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """Provide a receiver while the `with` block runs."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.paths.append(self.path)
            receiver.documents.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(receiver.delay)
            self.send_response(receiver.status)
            self.send_header("Location", f"{receiver.address}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
