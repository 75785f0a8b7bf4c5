"""Compare runs with 10 and with 100 students: python -m benchmarks.fanout [FEW MANY]

Each run is `kd run` on the digits, with its own store. It trains a grid of temperatures and the control, with one seed
each, in two processes. The control needs no teacher and is trained at the same time as the teacher. Of n students, the
stage "students" therefore trains n - 1, and its time is multiplied by n / (n - 1).

The benchmark measures the peak of private memory (`RssAnon`), in 1e6 bytes, for the command, its server, its workers,
and their sum. It takes five samples per second. Memory that a forked worker shares with the command counts twice.

The benchmark also counts how often "database is locked" occurs in the output of the command and in the log of its
server. Prefect usually retries silently after this error, so the server is configured to log it.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from benchmarks.common import memory, peaks, write

FEW, MANY, WORKERS, INTERVAL = 10, 100, 2, 0.2
LOCKED = "database is locked"
LOGGING = {"PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}


def experiment(students: int) -> dict[str, Any]:
    """Return an experiment with a number of variants, including the control."""
    return {
        "name": "fanout",
        "data": "digits",
        "threads": 1,
        "teacher": {"network": {"mlp": [32]}, "epochs": 300},
        "student": {"network": {"mlp": [8]}, "epochs": 10},
        "variants": ["hard-labels", {"kd": {"temperature": [1 + number / 10 for number in range(1, students)]}}],
        "runner": {"kind": "process", "workers": WORKERS},
    }


def family(root: int) -> dict[int, str]:
    """Return the roles of a process and of its descendants, by process id: command, server or workers."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    pids = {root}
    while children := {pid for pid, parent in parents.items() if parent in pids} - pids:
        pids |= children
    roles = {}
    for pid in pids:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_text()
            roles[pid] = "server" if "flows.services.serve_prefect" in line else "command" if pid == root else "workers"
    return roles


def run(students: int, folder: Path) -> dict[str, Any]:
    """Run one experiment. Return its seconds, memory, finished students, and number of "database is locked" errors."""
    path = folder / f"{students}.yaml"
    path.write_text(json.dumps(experiment(students)))  # JSON is YAML
    places = {"PREFECT_HOME": f"{folder}/prefect", "XDG_CACHE_HOME": f"{folder}/cache"}
    environment = {**os.environ, **LOGGING, **places, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{students}/mlflow.db"}
    logs: list[BufferedReader] = []

    def sample() -> dict[str, float]:
        figures = dict.fromkeys(("command", "server", "workers"), 0.0)
        for pid, role in family(process.pid).items():
            with suppress(OSError, KeyError):  # a process that is ending has no memory
                figures[role] += memory(pid)["RssAnon"]
                if role == "server" and not logs:
                    logs.append(open(f"/proc/{pid}/fd/2", "rb"))  # noqa: SIM115 - read after the server has ended
        return figures | {"all": sum(figures.values())}

    with (folder / "stderr").open("w+") as stderr:
        command = [str(Path(sys.executable).with_name("kd")), "run", str(path), "--json", "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True)
        with peaks(sample, INTERVAL) as most:
            outcome = json.loads(process.communicate()[0])
        stderr.seek(0)
        written = stderr.read()
    logged = logs[0].read().decode()
    return {
        "seconds": outcome["seconds"],
        "finished": sum(student["status"] == "FINISHED" for student in outcome["students"]),
        "stderr": {"lines": len(written.splitlines()), LOCKED: written.count(LOCKED)},
        "server's log": {"lines": len(logged.splitlines()), LOCKED: logged.count(LOCKED)},
        "peak_mb": {name: round(value) for name, value in most.items()},
    }


def main(few: int = FEW, many: int = MANY) -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        runs = {students: run(students, Path(folder)) for students in (few, many)}
    took = {number: result["seconds"]["students"] * number / (number - 1) for number, result in runs.items()}
    each = {"of the few": took[few] / few, "of the rest": (took[many] - took[few]) / (many - few)}
    ratio, rounded = round(took[many] / took[few], 2), {who: round(s, 2) for who, s in each.items()}
    write("fanout", {"workers": WORKERS, "ratio": ratio, "seconds each": rounded, "students": runs})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
