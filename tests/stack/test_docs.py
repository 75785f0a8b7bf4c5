"""The commands of docs/stack.md, except those that need a container engine, in their order.

A program named `docker` replaces `docker compose exec SERVICE COMMAND` and `docker compose run SERVICE COMMAND` by the
command with the environment of the service.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.clients import Client, new_client
from tests.stack.compose import ROOT
from tests.stack.processes import BIN, POSTGRES, Stack

pytestmark = pytest.mark.stack
PAGE = (ROOT / "docs" / "stack.md").read_text()
NEEDS_ENGINE = "# needs a container engine\n"
DOCKER = """#!{python}
import json, os, sys
compose, verb, *words = sys.argv[1:]
service, *command = [word for word in words if word not in ("--rm", "-T")]
assert (compose, verb in ("exec", "run")) == ("compose", True), sys.argv
os.execvpe(command[0], command, json.load(open({file!r}))[service])
"""


def blocks(heading: str, language: str = "sh") -> list[str]:
    """Return the blocks of a section that need no container engine."""
    (section,) = re.findall(rf"^##+ {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith(NEEDS_ENGINE)]


def program_named_docker(stack: Stack, folder: Path) -> Path:
    folder.mkdir()
    environments = {}
    for name in ("postgres", "bucket"):
        environments[name] = stack.environment(stack.service(name))
    postgres = environments["postgres"]
    postgres |= {"PGHOST": "127.0.0.1", "PGPORT": str(stack.ports[5432]), "PGPASSWORD": postgres["POSTGRES_PASSWORD"]}
    (folder / "environments.json").write_text(json.dumps(environments))
    file = folder / "docker"
    file.write_text(DOCKER.format(python=sys.executable, file=str(folder / "environments.json")))
    file.chmod(0o700)
    return folder


def run(block: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_settings_are_written_once(tmp_path: Path, ann: Client) -> None:
    for name in (".env.example", "docker-compose.yml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (block,) = blocks("Start")
    run(block, tmp_path, ann.environment)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def documented(stack: Stack, admin: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Provide the machine of the user whom the page creates."""
    (block,) = blocks("Members", "python")
    command = [sys.executable, "-c", stack.mapped(block)]
    subprocess.run(command, env=admin.environment, check=True, capture_output=True)
    client = new_client(stack, tmp_path_factory.mktemp("ann"), "", "")
    for name in [name for name in client.environment if name.startswith(("MLFLOW", "PREFECT"))]:
        del client.environment[name]
    client.environment["STACK_PREFECT_PASSWORD"] = stack.settings["STACK_PREFECT_PASSWORD"]
    yield client
    client.end()


@pytest.mark.usefixtures("digits")
def test_a_member_can_run_and_schedule(stack: Stack, documented: Client) -> None:
    members, schedules = blocks("Members"), blocks("Schedules")
    out = run(stack.mapped("\n".join([*members, *schedules])), documented.folder, documented.environment)
    assert "digits" in out


def test_a_restored_backup_has_the_champion_and_the_history(
    stack: Stack,
    ann: Client,
    digits: Any,
    stack_folder: Callable[[], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    champion = digits["verdict"]
    runs = {run["info"]["run_id"] for run in ann.runs()}
    backup, restore = blocks("Backup and restore")
    folder = tmp_path_factory.mktemp("backup")
    path = os.environ["PATH"]
    bin_folder = program_named_docker(stack, folder / "bin")
    run(backup, folder, {"PATH": f"{bin_folder}:{BIN}:{POSTGRES}:{path}", "PYTHONPATH": str(ROOT)})
    new = Stack(stack_folder(), dict(stack.settings))
    try:
        new.up(["postgres", "seaweedfs", "bucket"])
        bin_folder = program_named_docker(new, folder / "bin-of-restored")
        run(restore, folder, {"PATH": f"{bin_folder}:{BIN}:{POSTGRES}:{path}", "PYTHONPATH": str(ROOT)})
        for name in ("mlflow", "prefect"):
            new.start(name)
        client = new_client(new, tmp_path_factory.mktemp("client"), "ada", ann.environment["MLFLOW_TRACKING_PASSWORD"])
        assert {run["info"]["run_id"] for run in client.runs()} == runs
        again = client.outcome("run", "digits", "--quiet")
        assert again["verdict"]["version"] == champion["version"]
        assert all(student["reused"] for student in again["students"])
        (client.folder / "grey.png").write_bytes((ann.folder / "grey.png").read_bytes())
        for each in (ann, client):
            done = each.kd("predict", champion["model"], "grey.png")
            assert done.returncode == 0, done.stderr
        assert client.ask_prefect("/flow_runs/count", {}) >= ann.ask_prefect("/flow_runs/count", {})
    finally:
        new.down()
