"""docker-compose.yml, Dockerfile and .env.example, without a container engine. tests/stack starts the services."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.stack_settings import EMPTY, write_settings
from tests.stack.compose import FILE, ROOT, Compose, interpolated, read_compose, read_settings
from tests.stack.processes import ENTRYPOINTS, PORTS, Stack

EXACT_TAG = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*")
SECRET = re.compile(r"PASSWORD|SECRET|AUTH_STRING|KEY$")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    shutil.copy(ROOT / ".env.example", tmp_path)
    return read_settings(write_settings(tmp_path))


@pytest.fixture
def compose(settings: dict[str, str]) -> Compose:
    return read_compose(lambda text: interpolated(text, settings))


def test_the_file_follows_the_compose_specification() -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(FILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_without_settings_the_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"STACK_\w+: run kd init --stack"):
        read_compose(lambda text: interpolated(text, {}))


def test_every_secret_must_be_set(settings: dict[str, str]) -> None:
    for name in EMPTY.findall((ROOT / ".env.example").read_text()):
        with pytest.raises(ValueError, match=f"^{name}: run kd init --stack"):
            read_compose(lambda text, name=name: interpolated(text, settings | {name: ""}))


def test_no_password_is_in_the_file() -> None:
    compose = read_compose(lambda text: text)
    for service in compose.services.values():
        for name, value in service.environment.items():
            if SECRET.search(name) and name != "AWS_ACCESS_KEY_ID":
                assert re.fullmatch(r"(?:kdflow:)?\$\{STACK_\w+:\?run kd init --stack\}", value), name


def test_the_example_names_every_setting() -> None:
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert named - {"COMPOSE_PROFILES"} == used


def test_ports_are_published_on_this_machine_only(compose: Compose) -> None:
    ports = [port for service in compose.services.values() for port in service.ports]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_links_of_the_worker_lead_to_addresses_that_a_browser_reaches(
    compose: Compose, settings: dict[str, str]
) -> None:
    ports = [port for service in compose.services.values() for port in service.ports]
    addresses = {"STACK_MLFLOW_URL": "https://ml.example/mlflow", "STACK_PREFECT_URL": "https://prefect.example"}
    moved = read_compose(lambda text: interpolated(text, settings | addresses))
    for name in ("worker", "worker-gpu"):
        for variable, setting in (("KD_MLFLOW_UI_URL", "STACK_MLFLOW_URL"), ("PREFECT_UI_URL", "STACK_PREFECT_URL")):
            host = compose.services[name].environment[variable].removeprefix("http://")
            assert any(port.startswith(f"{host}:") for port in ports)
            assert moved.services[name].environment[variable] == addresses[setting]


def test_databases_and_files_are_not_reachable_from_the_workers(compose: Compose) -> None:
    assert compose.networks["databases"]["internal"]
    assert compose.networks["storage"]["internal"]
    for name in ("worker", "worker-gpu"):
        assert compose.services[name].networks == ["clients"]
        assert not [key for key in compose.services[name].environment if key.startswith(("AWS_", "PG", "MLFLOW_AUTH"))]


def test_every_service_is_checked_restarted_and_limited(compose: Compose) -> None:
    for name, service in compose.services.items():
        waits = [d for s in compose.services.values() for other, d in s.depends_on.items() if other == name]
        runs_once = bool(waits) and all(d.condition == "service_completed_successfully" for d in waits)
        assert (service.healthcheck is None) == runs_once, name
        assert service.restart == ("no" if runs_once else "unless-stopped"), name
        assert re.fullmatch(r"\d+[mg]", service.mem_limit), name
        assert service.logging.options["max-size"], name
        assert "no-new-privileges:true" in service.security_opt, name
        assert EXACT_TAG.fullmatch(service.image), name


def test_every_volume_and_configuration_has_a_name(compose: Compose) -> None:
    mounted = {volume.split(":")[0] for service in compose.services.values() for volume in service.volumes}
    assert mounted - {"./project"} == set(compose.volumes)
    assert {file.source for service in compose.services.values() for file in service.configs} == set(compose.configs)


def test_services_start_after_those_that_they_need(compose: Compose) -> None:
    assert compose.in_order({"cpu"}) == ["postgres", "seaweedfs", "bucket", "mlflow", "prefect", "worker"]
    assert compose.in_order({"gpu"})[-1] == "worker-gpu"


def test_the_processes_of_the_tests_map_every_image_and_place(tmp_path: Path, settings: dict[str, str]) -> None:
    stack = Stack(tmp_path, settings, dict(zip(PORTS, range(20_000, 20_000 + len(PORTS)), strict=True)))
    compose = read_compose(stack.mapped)
    assert {service.image for service in compose.services.values()} == set(ENTRYPOINTS)
    with pytest.raises(LookupError, match="names /etc/other, which"):
        stack.mapped("cat /etc/other")
    with pytest.raises(LookupError, match="names redis:6379, which"):
        stack.mapped("redis://redis:6379/0")


def test_the_image_is_built_from_the_lock_without_root_and_has_the_version_of_the_project(compose: Compose) -> None:
    text = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(EXACT_TAG.fullmatch(base) for base in bases)
    assert "--require-hashes --only-binary :all: requirements.lock" in text
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert compose.services["worker"].image == f"kdflow:{version[1]}"


def test_the_image_has_no_secret_and_no_store() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    assert not [line for line in lines if line.startswith("!") and (".env" in line or "mlruns" in line)]
