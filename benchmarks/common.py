"""What the benchmarks share: turns, a result with its machine and versions, the peak of something meanwhile."""

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "mlflow", "prefect", "kdflow")


def write(name: str, result: dict[str, Any]) -> None:
    """Add the machine and the versions, print the result, and write it to benchmarks/results/NAME.json."""
    versions = {"python": platform.python_version()} | {library: version(library) for library in LIBRARIES}
    told = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "versions": versions, **result}
    text = json.dumps(told, indent=1, ensure_ascii=False)
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


def turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of every round of each way, the ways taking turns so that what disturbs one disturbs all."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            began = time.perf_counter()
            work()
            times[way].append(round(time.perf_counter() - began, 4))
    return times


@contextmanager
def peaks(sample: Callable[[], dict[str, float]], every: float = 0.01) -> Iterator[dict[str, float]]:
    """The most of each figure in the block, looked at when it begins and ends, and every so many seconds between."""
    most: dict[str, float] = {}
    done = threading.Event()

    def look() -> None:
        for name, value in sample().items():
            most[name] = max(value, most.get(name, value))

    def watch() -> None:
        while not done.wait(every):
            look()

    look()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()
        look()


def memory(pid: int | str = "self") -> dict[str, float]:
    """A process's memory by the names of /proc/PID/status, in 1e6 bytes: `VmRSS` all, `RssAnon` its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon")}
