"""The part of the Compose file format that docker-compose.yml uses. A field that is not listed here is an error."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\})")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _seconds(value: str) -> float:
    number, unit = value[:-1], value[-1]
    return float(number) * {"s": 1, "m": 60}[unit]


Seconds = Annotated[float, BeforeValidator(_seconds)]
Condition = Literal["service_healthy", "service_completed_successfully"]


class HealthCheck(Strict):
    test: list[str]
    interval: Seconds
    timeout: Seconds
    retries: int
    start_period: Seconds


class Dependency(Strict):
    condition: Condition


class FileOfService(Strict):
    source: str
    target: str


class Logging(Strict):
    driver: str
    options: dict[str, str]


class Service(Strict):
    image: str
    build: str | None = None
    init: bool = False
    restart: str
    profiles: list[str] = []
    command: list[str] | None = None
    environment: dict[str, str]
    configs: list[FileOfService] = []
    healthcheck: HealthCheck | None = None
    mem_limit: str
    shm_size: str | None = None
    stop_grace_period: Seconds = 10.0
    cap_drop: list[str] = []
    security_opt: list[str]
    logging: Logging
    networks: list[str]
    ports: list[str] = []
    volumes: list[str] = []
    depends_on: dict[str, Dependency] = {}
    deploy: dict[str, Any] = {}


class Content(Strict):
    content: str


class Compose(Strict):
    name: str
    services: dict[str, Service]
    networks: dict[str, dict[str, bool]]
    volumes: dict[str, dict[str, str]]
    configs: dict[str, Content]

    def in_order(self, profiles: set[str]) -> list[str]:
        """Return the services of these profiles, each after the services that it depends on."""
        names: list[str] = []

        def add(name: str) -> None:
            for earlier in self.services[name].depends_on:
                add(earlier)
            if name not in names:
                names.append(name)

        for name, service in self.services.items():
            if not service.profiles or profiles & set(service.profiles):
                add(name)
        return names


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Replace the variables in a text.

    Raises:
        ValueError: A required variable is missing or empty.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = variables.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise ValueError(f"{match['name']}: {match['word']}")
        return found or (match["word"] if match["kind"] == "-" else "")

    return VARIABLE.sub(value, text)


def read_compose(change: Callable[[str], str]) -> Compose:
    """Read docker-compose.yml, and change each text in it."""
    content = yaml.safe_load(FILE.read_text())
    return Compose.model_validate(_changed({key: v for key, v in content.items() if not key.startswith("x-")}, change))


def read_settings(file: Path) -> dict[str, str]:
    """Return the variables of an `.env` file."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    return value
