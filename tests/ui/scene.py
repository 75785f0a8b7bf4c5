"""A real comparison of the digits, in a folder of its own, and the servers of `kd up --login` that show it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, HttpCredentials, ViewportSize, sync_playwright

from tasks import tracking
from tests.faults.servers import free_port

ROOT = Path(__file__).parents[2]
KD = [str(Path(sys.executable).with_name("kd"))]
CHROMIUM = "/usr/bin/chromium"
START_SECONDS = 600  # a busy machine needs minutes to start the servers
WAIT_MS = 60_000  # the pages of a busy server
SCREEN: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


@dataclass(frozen=True)
class Scene:
    """A comparison of the digits and the servers that show it.

    Attributes:
        folder: The working folder of the comparison, which holds its store.
        environment: The environment variables of `kd` in this folder.
        mlflow: The address of the MLflow UI.
        prefect: The address of the Prefect UI.
        outcome: What `kd run digits --json` printed.
    """

    folder: Path
    environment: dict[str, str]
    mlflow: str
    prefect: str
    outcome: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The id of the comparison's run."""
        return str(self.outcome["parent_run_id"])

    def kd(self, *words: str) -> str:
        """Run `kd WORDS` in the folder, and return its stdout."""
        return run_kd(self.folder, self.environment, *words)

    def use_store(self) -> None:
        """Let this process read the store of the comparison."""
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.folder}/mlruns/mlflow.db"
        tracking.configure()

    def mlflow_context(self, browser: Browser) -> BrowserContext:
        """Return a browser that is logged in to MLflow."""
        login: HttpCredentials = {"username": "admin", "password": self.secret("kdflow-mlflow-password")}
        context = browser.new_context(viewport=SCREEN, http_credentials=login)
        context.set_default_timeout(WAIT_MS)
        return context

    def prefect_context(self, browser: Browser) -> BrowserContext:
        """Return a browser that is logged in to Prefect."""
        context = browser.new_context(viewport=SCREEN, timezone_id="UTC")
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.goto(self.prefect)
        page.locator("input[type=password]").fill(f"kdflow:{self.secret('kdflow-password')}")
        page.keyboard.press("Enter")
        page.wait_for_url("**/dashboard*")
        page.close()
        return context

    def secret(self, name: str) -> str:
        """Return the content of a file in Prefect's home."""
        return (self.folder / "prefect" / name).read_text()


def run_kd(folder: Path, environment: dict[str, str], *words: str) -> str:
    """Run `kd WORDS` in a folder, and return its stdout."""
    done = subprocess.run([*KD, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kd {' '.join(words)}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def digits_scene(folder: Path) -> Iterator[Scene]:
    """Start `kd up --login` in a folder, and run `kd run digits`.

    Args:
        folder: An empty folder, for the working folder, Prefect's home and the cache.
    """
    prefixes = ("PREFECT", "MLFLOW_", "KD_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | {
        "PREFECT_HOME": str(folder / "prefect"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    port, mlflow_port = free_port(), free_port()
    with served(folder, environment, port, mlflow_port):
        outcome = json.loads(run_kd(folder, environment, "run", "digits", "--quiet", "--json"))
        yield Scene(folder, environment, f"http://127.0.0.1:{mlflow_port}", f"http://127.0.0.1:{port}", outcome)


@contextlib.contextmanager
def served(folder: Path, environment: dict[str, str], port: int, mlflow_port: int) -> Iterator[None]:
    """Run `kd up --login` in a folder while the `with` block runs."""
    command = [*KD, "up", "--login", "--port", str(port), "--mlflow-port", str(mlflow_port)]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        lines: list[str] = []
        assert process.stderr
        # A full pipe would block `kd up`.
        reader = threading.Thread(target=lines.extend, args=[process.stderr], daemon=True)
        reader.start()
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (folder / "prefect" / "kdflow-server.json").exists():
                assert process.poll() is None, f"kd up stopped: {''.join(lines)}"
                assert time.monotonic() < deadline, f"kd up does not answer: {''.join(lines)}"
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            reader.join(timeout=120)  # kd up closes the pipe at its end


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()
