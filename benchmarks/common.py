"""Functions that several benchmarks use: alternating runs, result files, and the sampling of peaks."""

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

import numpy as np

from kdmodels.evaluation.ranking import StudentResult
from kdmodels.run_status import RunStatus

LIBRARIES = ("torch", "numpy", "mlflow", "prefect", "kdflow")


def write(name: str, result: dict[str, Any]) -> None:
    """Add the machine and the versions, print the result, and write it to benchmarks/results/NAME.json."""
    versions = {"python": platform.python_version()} | {library: version(library) for library in LIBRARIES}
    document = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "versions": versions, **result}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


def turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time several ways to do the same work. Return the seconds of each way in each round, by the name of the way.

    The ways alternate, so that a disturbance affects all of them.
    """
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            began = time.perf_counter()
            work()
            times[way].append(round(time.perf_counter() - began, 4))
    return times


@contextmanager
def peaks(sample: Callable[[], dict[str, float]], every: float = 0.01) -> Iterator[dict[str, float]]:
    """Yield a mapping with the peak of each sampled value, which is complete when the block ends.

    Samples are taken at the start of the block, every `every` seconds, and at the end.
    """
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
    """Return the memory of a process in 1e6 bytes, from /proc/PID/status.

    `VmRSS` is the resident memory, and `RssAnon` is its private part.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon")}


def student_result(name: str, outcomes: np.ndarray) -> StudentResult:
    """Return the result of a finished student whose control is `v0`.

    `outcomes` holds whether each replica classifies each validation example correctly, (S, N) bool.
    """
    accuracies = outcomes.mean(axis=1)
    return StudentResult(
        variant=name,
        control="v0",
        run_id=name,
        status=RunStatus.FINISHED,
        reused=False,
        seeds=list(range(len(accuracies))),
        metrics={"val/accuracy": float(accuracies.mean())},
        per_seed={"val/accuracy": accuracies.tolist()},
        parameters=1,
    )
