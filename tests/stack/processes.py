"""The services of docker-compose.yml as plain processes of this machine.

Commands, environments, configuration files and health checks come from the file. The function `table` maps the hosts,
ports and paths of the containers to those of this machine, and `ENTRYPOINTS` maps the images to programs. A place or an
image that is not in these tables is an error. Networks, capabilities, memory limits and restarts are not reproduced.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.stack.compose import ROOT, Service, interpolated, read_compose, read_settings

POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=Path())
BIN = Path(sys.executable).parent  # not resolved: the programs of the virtual environment
PORTS = (5432, 8333, 5000, 4200, 8080)
# A host with a port, an address, a port, or an absolute path. A path in an address of a server does not count.
PLACE = re.compile(
    r"(?:[a-z][a-z-]*|\d+\.\d+\.\d+\.\d+):\d{4,5}(?!\d)|\d+\.\d+\.\d+\.\d+|(?<![\w.-])\d{4,5}(?![\w.])|(?<![\w:/.}])/[\w./-]+"
)
START_SECONDS = 480


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def table(folder: Path, ports: dict[int, int]) -> dict[str, str]:
    """Return the place on this machine for each place in docker-compose.yml."""
    loopback = {port: f"127.0.0.1:{free}" for port, free in ports.items()}
    names = {"postgres": 5432, "seaweedfs": 8333, "mlflow": 5000, "prefect": 4200}
    return {
        "0.0.0.0": "127.0.0.1",
        "127.0.0.1": "127.0.0.1",
        **{f"{name}:{port}": loopback[port] for name, port in names.items()},
        **{f"{host}:{port}": address for host in ("127.0.0.1", "localhost") for port, address in loopback.items()},
        **{str(port): str(free) for port, free in ports.items()},
        "/etc/kdflow/login.ini": str(folder / "login.ini"),
        "/docker-entrypoint-initdb.d/databases.sql": str(folder / "databases.sql"),
        "/var/lib/postgresql": str(folder / "postgres"),
        "/data": str(folder / "seaweedfs"),
        "/home/kd": str(folder / "home"),
        "/project": str(folder / "project"),
        "/dev/null": "/dev/null",
    }


@dataclass
class Running:
    """The process of a service, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def tree(self) -> list[int]:
        """Return the ids of the process and of its descendants."""
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parent = int(path.read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(path.parent.name))
        pids = [self.process.pid]
        for pid in pids:
            pids += children.get(pid, [])
        return pids


@dataclass
class Stack:
    """The services of docker-compose.yml, with the settings of an `.env` file, in a folder."""

    folder: Path
    settings: dict[str, str]
    ports: dict[int, int] = field(default_factory=lambda: dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    running: dict[str, Running] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def _table(self) -> dict[str, str]:
        return table(self.folder, self.ports)

    def mapped(self, text: str) -> str:
        def place(match: re.Match[str]) -> str:
            if match[0] not in self._table:
                raise LookupError(f"docker-compose.yml names {match[0]}, which tests/stack/processes.py does not map")
            return self._table[match[0]]

        return PLACE.sub(place, text)

    def service(self, name: str) -> Service:
        return read_compose(lambda text: interpolated(self.mapped(text), self.settings)).services[name]

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.ports[5000]}"

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.ports[4200]}/api"

    def up(self, names: Sequence[str] = ()) -> None:
        """Create the folders of the volumes, and start services in their order, as `docker compose up` does.

        Args:
            names: The services. Default: all services.
        """
        began = time.monotonic()
        for name in ("seaweedfs", "home", "project", "logs"):
            (self.folder / name).mkdir(exist_ok=True, mode=0o700)
        compose = read_compose(self.mapped)
        for name, config in compose.configs.items():
            service_file = next(f.target for s in compose.services.values() for f in s.configs if f.source == name)
            Path(service_file).write_text(interpolated(config.content, self.settings))
        for name in names or compose.in_order({self.settings["COMPOSE_PROFILES"]}):
            self.start(name)
        self.seconds["all"] = time.monotonic() - began

    def start(self, name: str) -> None:
        """Start a service, and wait until its health check succeeds. Wait for the end of a service without a check."""
        began, service = time.monotonic(), self.service(name)
        log = self.folder / "logs" / f"{name}.log"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                ENTRYPOINTS[service.image](self, service.command or []),
                env=self.environment(service),
                cwd=self.folder / "home",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running[name] = Running(process, log)
        if service.healthcheck is None:
            assert process.wait(START_SECONDS) == 0, f"{name}: {log.read_text()[-2000:]}"
        else:
            self.wait_healthy(name, process)
        self.seconds[name] = time.monotonic() - began

    def wait_healthy(self, name: str, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.is_healthy(name):
            log = self.running[name].log.read_text(errors="replace")[-3000:]
            assert process.poll() is None, f"{name} ended with exit code {process.returncode}: {log}"
            assert time.monotonic() < deadline, f"{name} is not healthy after {START_SECONDS} s: {log}"
            time.sleep(0.5)

    def is_healthy(self, name: str) -> bool:
        """Return whether the health check of a service succeeds."""
        service = self.service(name)
        check = service.healthcheck
        assert check is not None
        kind, program, *arguments = check.test
        assert kind == "CMD"
        command = [PROGRAMS[program](), *arguments]
        done = subprocess.run(command, env=self.environment(service), capture_output=True, timeout=check.timeout)
        return done.returncode == 0

    def environment(self, service: Service) -> dict[str, str]:
        """Return the environment of a service. It has nothing from the environment of the tests."""
        path = f"{BIN}:{POSTGRES}:/usr/local/bin:/usr/bin:/bin"
        image = {"PATH": path, "HOME": str(self.folder / "home"), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        tests = {"OMP_NUM_THREADS": "1", "KD_CHECKPOINT_SECONDS": "1"}
        return image | tests | service.environment

    def stop(self, name: str) -> None:
        """Stop a service, as `docker compose stop` does."""
        running = self.running.pop(name)
        # The image of PostgreSQL names SIGINT, after which the server does not wait for its clients.
        running.process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        running.process.wait(90)

    def kill(self, name: str) -> None:
        """Kill a service with all its processes, as `docker compose kill` does."""
        running = self.running.pop(name)
        pids = running.tree()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        running.process.wait(30)

    def down(self) -> None:
        """Stop all services, the last one first."""
        for name in reversed([*self.running]):
            self.stop(name)

    def run(self, name: str, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command with the environment of a service, as `docker compose exec` and `docker compose run` do."""
        service = self.service(name)
        program, *arguments = shlex.split(interpolated(self.mapped(command), self.settings))
        environment = self.environment(service) | {"PGHOST": "127.0.0.1", "PGPORT": str(self.ports[5432])}
        if "POSTGRES_PASSWORD" in environment:  # inside the container, the socket needs no password
            environment["PGPASSWORD"] = environment["POSTGRES_PASSWORD"]
        return subprocess.run([PROGRAMS[program](), *arguments], env=environment, capture_output=True, text=True)


def _postgres(stack: Stack, command: list[str]) -> list[str]:
    """Return the command of the PostgreSQL server, after what the entrypoint of the image does on the first start."""
    assert not command
    assert POSTGRES.is_dir(), "PostgreSQL is not installed"
    environment = stack.environment(stack.service("postgres"))
    data = stack.folder / "postgres"
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    server = [*as_user, str(POSTGRES / "postgres"), "-D", str(data), "-p", str(stack.ports[5432])]
    server += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    if data.exists():
        return server
    data.mkdir(mode=0o700)
    password = stack.folder / "password"
    password.write_text(environment["POSTGRES_PASSWORD"])
    if as_user:
        for path in (data, password):
            shutil.chown(path, "postgres", "postgres")
        stack.folder.chmod(0o711)
    initialise = [str(POSTGRES / "initdb"), "-D", str(data), "-U", "postgres", "--pwfile", str(password)]
    initialise += shlex.split(environment["POSTGRES_INITDB_ARGS"])
    subprocess.run([*as_user, *initialise], check=True, capture_output=True, cwd="/")
    password.unlink()
    process = subprocess.Popen(server, env=environment, cwd="/", stderr=subprocess.DEVNULL)
    psql = [
        str(POSTGRES / "psql"),
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-p",
        str(stack.ports[5432]),
        "-U",
        "postgres",
    ]
    login = environment | {"PGPASSWORD": environment["POSTGRES_PASSWORD"]}
    while subprocess.run([*psql, "-c", "select 1"], env=login, capture_output=True).returncode:
        assert process.poll() is None, f"PostgreSQL ended with exit code {process.returncode}"
        time.sleep(0.1)
    subprocess.run([*psql, "-f", str(stack.folder / "databases.sql")], env=login, check=True, capture_output=True)
    process.terminate()
    process.wait(60)
    return server


def _seaweedfs(stack: Stack, command: list[str]) -> list[str]:
    """Return the command of the S3 store. The options before those of the file are those of the image's entrypoint."""
    server, *options = command
    assert server == "server"
    image = ["-dir=" + str(stack.folder / "seaweedfs"), "-volume.max=0", "-master.volumeSizeLimitMB=1024"]
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    names.remove("s3.port")
    ports = [f"-{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
    return [
        PROGRAMS["weed"](),
        "-logtostderr=true",
        server,
        *image,
        *options,
        *ports,
    ]


def _kdflow(stack: Stack, command: list[str]) -> list[str]:
    program, *arguments = command
    return [PROGRAMS[program](), *arguments]


ENTRYPOINTS: dict[str, Callable[[Stack, list[str]], list[str]]] = {
    "postgres:18.6-trixie": _postgres,
    "chrislusf/seaweedfs:4.48": _seaweedfs,
    "kdflow:0.1.0": _kdflow,
}


def _installed(name: str) -> Callable[[], str]:
    def path() -> str:
        found = shutil.which(name, path=f"{BIN}:{POSTGRES}:{os.environ['PATH']}")
        assert found, f"{name} is not installed"
        return found

    return path


PROGRAMS: dict[str, Callable[[], str]] = {
    name: _installed(name)
    for name in ("python", "kd", "mlflow", "prefect", "weed", "wget", "pg_isready", "pg_dump", "pg_restore", "psql")
}


@contextmanager
def started(folder: Path, names: Sequence[str] = ()) -> Iterator[Stack]:
    """Write the settings of a new stack in a folder, start the stack, and stop it at the end of the block.

    Args:
        folder: An empty folder.
        names: The services to start. Default: all services.
    """
    for name in (".env.example", "docker-compose.yml"):
        shutil.copy(ROOT / name, folder)
    subprocess.run([PROGRAMS["kd"](), "init", "--stack"], cwd=folder, check=True, capture_output=True)
    stack = Stack(folder, read_settings(folder / ".env"))
    try:
        stack.up(names)
        yield stack
    finally:
        stack.down()
