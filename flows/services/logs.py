"""The log files of the services that `kd up` runs.

A service writes to a pipe. A thread of `kd up` copies each line from the pipe to a log file, and starts a new file when
the file has become large.
"""

import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Thread

from flows.services.prefect_settings import prefect_home
from kdmodels.errors import redacted
from kdmodels.files.folders import private_folder

LARGEST_FILE = 5_000_000  # bytes
OLD_FILES = 3  # per service
FLUSH_SECONDS = 5
LAST_LINES = 10


def log_folder() -> Path:
    """Return the folder of the log files. Create it if it does not exist.

    Raises:
        PermissionError: Other users can write to the folder.
    """
    return private_folder(prefect_home() / "kdflow-logs")


def log_file(service: str) -> Path:
    """Return the path of a service's log file, e.g. prefect-server.log for "the Prefect server"."""
    return log_folder() / f"{service.removeprefix('the ').lower().replace(' ', '-')}.log"


def last_lines(file: Path) -> list[str]:
    """Return the last lines of a log file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip("\n") for line in deque(lines, LAST_LINES)]


class ServiceLogs:
    """The threads that copy the output of services to log files.

    Args:
        echo: Whether to print the output on stderr too.
    """

    def __init__(self, *, echo: bool) -> None:
        self.echo = echo
        self._threads: list[Thread] = []

    @contextlib.contextmanager
    def pipe(self, service: str) -> Iterator[int]:
        """Provide a file descriptor for the output of a service that the `with` block starts."""
        output, descriptor = os.pipe()
        thread = Thread(target=self._copy, args=(output, log_file(service)), daemon=True)
        thread.start()
        self._threads.append(thread)
        try:
            yield descriptor
        finally:
            os.close(descriptor)  # the thread ends when the service has closed its copy too

    def flush(self) -> None:
        """Wait until the output of all services that have ended is in the log files."""
        for thread in self._threads:
            thread.join(FLUSH_SECONDS)

    def _copy(self, output: int, file: Path) -> None:
        handler = RotatingFileHandler(file, maxBytes=LARGEST_FILE, backupCount=OLD_FILES, encoding="utf-8")
        with open(output, encoding="utf-8", errors="replace") as lines, contextlib.closing(handler):
            for line in lines:
                text = redacted(line.rstrip("\n"))
                handler.handle(logging.makeLogRecord({"msg": text}))
                if self.echo:
                    with contextlib.suppress(OSError):  # the terminal was closed
                        print(text, file=sys.stderr)


@contextlib.contextmanager
def service_logs(*, echo: bool) -> Iterator[ServiceLogs]:
    """Provide the log files of services. The services must end before the `with` block ends.

    Args:
        echo: Whether to print the output on stderr too.
    """
    logs = ServiceLogs(echo=echo)
    try:
        yield logs
    finally:
        logs.flush()
