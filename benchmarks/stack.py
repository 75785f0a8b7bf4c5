"""Measure the team stack as plain processes: python -m benchmarks.stack

The benchmark measures the time to start the stack, the requests to MLflow and the time per student, the time to take a
lock, and the throughput of four clients. PostgreSQL and wget must be installed; `make test-stack` installs them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import yaml

from benchmarks.common import write
from tests.stack.clients import Client, new_client
from tests.stack.load import STUDENTS, VARIANTS, experiment, requests_in, run_at_once
from tests.stack.processes import Stack, started

CLIENTS, FEW = 4, 3
# A script that takes 20 free locks of the stack one after the other, and prints the milliseconds of each lock.
LOCKS = """
import json, time
from tasks import tracking
from tasks.execution.team_locks import team_exclusive
tracking.configure()
milliseconds = []
for number in range(21):
    began = time.perf_counter()
    with team_exclusive(f"benchmark {number}"):
        pass
    milliseconds.append(round(1000 * (time.perf_counter() - began), 1))
print(json.dumps(milliseconds[1:]))  # the first imports and connects
"""


def main() -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user, and its files are in a subfolder
        for name in ("stack", "clients"):
            (Path(folder) / name).mkdir()
        with started(Path(folder) / "stack") as stack:
            password = stack.settings["STACK_MLFLOW_ADMIN_PASSWORD"]
            clients = [
                new_client(stack, Path(folder) / "clients" / str(number), "admin", password)
                for number in range(CLIENTS)
            ]
            first = {name: round(seconds, 1) for name, seconds in stack.seconds.items()}
            few, many = (measured(stack, clients[0], students) for students in (FEW, STUDENTS))
            locks = locks_of(clients[0])
            load = run_at_once(clients, "team")
            stack.down()
            stack.up()
            again = {name: round(seconds, 1) for name, seconds in stack.seconds.items()}
    write(
        "stack",
        {
            "seconds of the first start": first,
            "seconds of a later start": again,
            f"run with {FEW} students": few,
            f"run with {STUDENTS} students": many,
            "for each more student": {
                name: round((many[name] - few[name]) / (STUDENTS - FEW), 2)
                for name in ("requests", "seconds of students")
            },
            "milliseconds of a lock that is free": {"median": median(locks), "all": locks},
            f"students a minute of {CLIENTS} clients": round(CLIENTS * STUDENTS / load.seconds * 60, 1),
            f"seconds of {CLIENTS} clients": round(load.seconds, 1),
        },
    )


def measured(stack: Stack, client: Client, students: int) -> dict[str, float]:
    """Run an experiment with this number of students. Return the number of requests to MLflow, and the seconds."""
    variants = VARIANTS if students == STUDENTS else VARIANTS[:students]
    (client.folder / "one.yaml").write_text(
        yaml.safe_dump(experiment(f"one-{students}", seed=100 * students, variants=variants))
    )
    before = requests_in(stack.running["mlflow"].log)
    outcome = client.outcome("run", "one.yaml", "--quiet")
    assert len(outcome["students"]) == students
    return {
        "requests": requests_in(stack.running["mlflow"].log) - before,
        "seconds": outcome["seconds"]["total"],
        "seconds of students": outcome["seconds"]["students"],
    }


def locks_of(client: Client) -> list[float]:
    """Return the milliseconds that a process of a client needs to take and free each of 20 locks."""
    done = subprocess.run(
        [sys.executable, "-c", LOCKS], env=client.environment, cwd=client.folder, capture_output=True, check=True
    )
    milliseconds: list[float] = json.loads(done.stdout)
    return milliseconds


if __name__ == "__main__":
    main()
