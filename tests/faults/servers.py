"""A server in a process that tests kill and restart."""

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from flows.services.prefect_health import answers


class Server:
    """A server in its own process group, which can be killed and restarted. `server.pid` holds the group's id."""

    def __init__(self, command: list[str], url: str, folder: Path, environment: dict[str, str]):
        self._command, self._url, self._folder, self._environment = command, url, folder, environment
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (self._folder / "server.pid").write_text(str(self.process.pid))
        deadline = time.monotonic() + 300
        try:
            while not answers(self._url):
                assert self.process.poll() is None, "the server does not start"
                assert time.monotonic() < deadline
                time.sleep(0.1)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
