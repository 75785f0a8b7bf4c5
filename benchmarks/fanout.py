"""A hundred students in one fan-out, against ten: python -m benchmarks.fanout [FEW MANY]

`kd run` on digits in stores of its own: a grid of temperatures and the control, one seed each, in two processes, which
are ready before the teacher is. The control needs no teacher and is trained beside it: a stage of students has one less
of them, and is taken for the share that it is of all. Memory is the peak of what processes hold for themselves
(`RssAnon`), in 1e6 bytes, sampled five times a second: of the command, its server, its workers, and all; what a worker
shares with the command that it was forked from counts twice. A locked database is looked for in what the command
writes, and in its server's log, which is told to say so: Prefect tries again, and keeps it to itself.
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
TOLD = {"PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}


def experiment(students: int) -> dict[str, Any]:
    """So many variants, the control among them."""
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
    """A process and its descendants, and what each is for."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    roles = {}
    for pid in found:
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_text()
            roles[pid] = "server" if "flows.server" in line else "command" if pid == root else "workers"
    return roles


def run(students: int, folder: Path) -> dict[str, Any]:
    """A fan-out's seconds, memory and endings, and how often a database was locked."""
    path = folder / f"{students}.yaml"
    path.write_text(json.dumps(experiment(students)))  # JSON is YAML
    places = {"PREFECT_HOME": f"{folder}/prefect", "XDG_CACHE_HOME": f"{folder}/cache"}
    environment = {**os.environ, **TOLD, **places, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{students}/mlflow.db"}
    logs: list[BufferedReader] = []

    def held() -> dict[str, float]:
        figures = dict.fromkeys(("command", "server", "workers"), 0.0)
        for pid, role in family(process.pid).items():
            with suppress(OSError, KeyError):  # one that ends has no memory any more
                figures[role] += memory(pid)["RssAnon"]
                if role == "server" and not logs:
                    logs.append(open(f"/proc/{pid}/fd/2", "rb"))  # noqa: SIM115 - read when the server has gone
        return figures | {"all": sum(figures.values())}

    with (folder / "stderr").open("w+") as stderr:
        command = [str(Path(sys.executable).with_name("kd")), "run", str(path), "--json", "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True)
        with peaks(held, INTERVAL) as most:
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
    took = {number: told["seconds"]["students"] * number / (number - 1) for number, told in runs.items()}
    each = {"of the few": took[few] / few, "of the rest": (took[many] - took[few]) / (many - few)}  # the rest: no start
    told = {"ratio": round(took[many] / took[few], 2), "seconds each": {who: round(s, 2) for who, s in each.items()}}
    write("fanout", {"workers": WORKERS, **told, "students": runs})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
