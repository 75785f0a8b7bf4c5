"""The commands of docs/stack.md, except those that need a container engine, in their order.

A program named `docker` replaces `docker compose exec SERVICE COMMAND` and `docker compose run SERVICE COMMAND` by the
command with the environment of the service.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.clients import SMALL, Client, new_client, new_user
from tests.stack.compose import ROOT
from tests.stack.processes import BIN, POSTGRES, Stack, started

pytestmark = pytest.mark.stack
PAGE = (ROOT / "docs" / "stack.md").read_text()
REFUSED = {"require": {"accuracy": ">= 0.999"}}
VERSION = "SELECT version_num FROM alembic_version"
PREFECT_3_8_8 = "d4a7e1c93f52"  # the last migration of the previous lock
# MLflow has been the same in all locks, so its databases get an earlier schema.
OLD_MLFLOW = """
import os
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.server.auth.db import utils as logins
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base
url = os.environ["MLFLOW_BACKEND_STORE_URI"]
engine = create_sqlalchemy_engine(url)
Base.metadata.create_all(engine)
config = _get_alembic_config(url)
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][1])
logins.migrate(create_sqlalchemy_engine(f"{url}_logins"), logins.INITIAL_REVISION)
"""
KEYS = """
import os
import boto3
s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="kdflow")
print(*[item["Key"] for page in pages for item in page.get("Contents", [])])
"""
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
    for name in ("postgres", "bucket", "mlflow", "prefect"):
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


def test_databases_of_the_previous_lock_are_upgraded(stack_folder: Callable[[], Path]) -> None:
    with started(stack_folder(), ["postgres"]) as old:

        def psql(database: str, statement: str) -> str:
            done = old.run(
                "postgres", f"psql --username postgres --dbname {database} -tA --command {shlex.quote(statement)}"
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        run(f"python -c {shlex.quote(OLD_MLFLOW)}", old.folder, old.environment(old.service("mlflow")))
        assert old.run("prefect", f"prefect server database upgrade -y -r {PREFECT_3_8_8}").returncode == 0
        psql("mlflow", "INSERT INTO experiments (name, lifecycle_stage) VALUES ('digits', 'active')")
        psql("mlflow_logins", "INSERT INTO users (username, password_hash, is_admin) VALUES ('ann', 'hash', false)")
        psql("prefect", "INSERT INTO flow (name) VALUES ('distill')")
        versions = [psql("mlflow", VERSION), psql("mlflow_logins", f"{VERSION}_auth"), psql("prefect", VERSION)]
        (upgrade,) = blocks("Upgrade")
        path = f"{program_named_docker(old, old.folder / 'bin')}:{os.environ['PATH']}"
        for _ in range(2):  # the second time, everything is up to date
            run(upgrade, old.folder, {"PATH": path})
        upgraded = [psql("mlflow", VERSION), psql("mlflow_logins", f"{VERSION}_auth"), psql("prefect", VERSION)]
        assert all(new != before for new, before in zip(upgraded, versions, strict=True))
        assert psql("mlflow", "SELECT name FROM experiments") == "digits"
        assert psql("mlflow_logins", "SELECT username FROM users") == "ann"
        assert psql("prefect", "SELECT name FROM flow") == "distill"


@pytest.fixture
def other_stack(stack_folder: Callable[[], Path]) -> Iterator[Stack]:
    """Start a second stack, whose runs no other test needs."""
    with started(stack_folder(), ["postgres", "seaweedfs", "bucket", "mlflow", "prefect"]) as stack:
        yield stack


def test_old_runs_are_deleted_for_good_by_the_admin(other_stack: Stack, tmp_path: Path) -> None:
    stack = other_stack
    admin = new_client(stack, tmp_path / "admin", "admin", stack.settings["STACK_MLFLOW_ADMIN_PASSWORD"])
    ann, carl = (new_user(stack, tmp_path / name, name) for name in ("ann", "carl"))
    (ann.folder / "old.yaml").write_text(yaml.safe_dump(SMALL | {"name": "old", "promote": REFUSED}))
    old = {student["run_id"] for student in ann.outcome("run", "old.yaml", "--quiet")["students"]}
    refused = carl.kd("gc", "--older-than", "0h")
    assert refused.returncode == 1
    assert "the MLflow server does not allow it to this user" in refused.stderr
    mark, delete = [block.replace("90d", "0h").replace("30d", "0d") for block in blocks("Retention")]
    deleted = run(stack.mapped(mark), tmp_path, admin.environment)
    assert all(run_id in deleted for run_id in old)
    path = f"{program_named_docker(stack, tmp_path / 'bin')}:{os.environ['PATH']}"
    run(stack.mapped(delete), tmp_path, {"PATH": path})
    for run_id in old:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            admin.ask_mlflow(f"/runs/get?run_id={run_id}")
    assert not [key for key in keys_in_bucket(stack) if any(run_id in key for run_id in old)]


def keys_in_bucket(stack: Stack) -> list[str]:
    environment = stack.environment(stack.service("bucket"))
    done = subprocess.run([sys.executable, "-c", KEYS], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


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
