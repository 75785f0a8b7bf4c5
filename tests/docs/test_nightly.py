"""Each command of docs/nightly.md runs, in the order of the page, with a home folder of its own.

tests/faults/test_cancel.py and tests/faults/test_watch.py run `kd cancel` and `kd watch` during a run, and
tests/test_prefect_yaml.py runs `prefect deploy`.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows.services import prefect_server
from tests.conftest import SMALL

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "nightly.md"
EXPERIMENT = SMALL | {"name": "mine", "student": {"network": {"mlp": [8]}, "epochs": 1, "seeds": 1}}


def commands() -> list[str]:
    """Return the lines of the page's sh blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("kd cancel", "kd watch", "prefect "))]


def free_port() -> int:
    with prefect_server.bind(0) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.fault
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    prefixes = ("PREFECT", "MLFLOW", "KD_", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    ports = f"--port {free_port()} --mlflow-port {free_port()}"  # the tests never use the default ports

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    try:
        assert commands()[0].startswith("kd up --detach")
        assert commands()[-1] == "kd down"
        for command in commands():
            done = run(f"{command} {ports}" if command.startswith("kd up") else command)
            for _ in range(120):  # a schedule is deleted when its run, which an earlier command requested, has ended
                if not done.returncode or "is in progress" not in done.stderr:
                    break
                time.sleep(1)
                done = run(command)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    finally:
        run("kd down")
    assert not list((tmp_path / ".prefect").glob("kdflow-server.json"))
