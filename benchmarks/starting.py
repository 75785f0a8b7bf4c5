"""Measure how long commands take to start: python -m benchmarks.starting

The benchmark measures the time from the start of `kd run digits` until the teacher's first epoch of 18 steps is
recorded. The command runs in three situations:

- with a new MLflow store and a new Prefect home, whose databases are created first
- once more with `--fresh`
- with `--fresh` while `kd up` serves

The benchmark also times a repetition of the first command, which reuses all runs, `kd --help`, and the import of each
library.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import write

ROUNDS = 3
KD = Path(sys.executable).with_name("kd")
IMPORTS = ("torch", "prefect", "mlflow", "prefect.server.api.server", "sklearn.model_selection", "flows.distill")


def run(folder: str, *words: str) -> dict[str, Any]:
    """Run `kd run digits` once. Return the total time, the time to the teacher's first epoch, and stage times in s."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PREFECT_HOME": f"{folder}/prefect",
        "XDG_CACHE_HOME": f"{folder}/cache",
    }
    began, clock = time.time(), time.perf_counter()
    done = subprocess.run(
        [KD, "run", "digits", "--json", *words], env=environment, check=True, capture_output=True, text=True
    )
    outcome = json.loads(done.stdout)
    return {
        "total": round(time.perf_counter() - clock, 2),
        "first epoch": first_epoch(folder, outcome["teacher"]["run_id"], began),
        "stages": outcome["seconds"],
    }


def first_epoch(folder: str, run_id: str, began: float) -> float:
    """Return the seconds from the start of the command to the record of the run's first epoch."""
    from mlflow import MlflowClient

    history = MlflowClient(f"sqlite:///{folder}/mlflow.db").get_metric_history(run_id, "epoch")
    return round(min(metric.timestamp for metric in history) / 1000 - began, 2)


def seconds(*command: object) -> float:
    """Run a process, and return its duration in seconds."""
    began = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return round(time.perf_counter() - began, 2)


def with_server(folder: str) -> list[dict[str, Any]]:
    """Run the command several times while `kd up` serves."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    environment["PREFECT_HOME"] = f"{folder}/prefect"
    serving = subprocess.Popen([KD, "up"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert serving.stderr is not None
        for line in serving.stderr:
            if "Ctrl-C" in line:
                break
        time.sleep(10)  # the worker of `kd up` is still importing modules
        return [run(folder, "--fresh") for _ in range(ROUNDS)]
    finally:
        serving.terminate()
        serving.communicate()


def main() -> None:
    """Measure, print and write the result."""
    imports = {name: [seconds(sys.executable, "-c", f"import {name}") for _ in range(ROUNDS)] for name in IMPORTS}
    helps = [seconds(KD, "--help") for _ in range(ROUNDS)]
    first, later, again = [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
            first.append(run(folder))
            again.append(run(folder))
            later.append(run(folder, "--fresh"))
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        run(folder)
        served = with_server(folder)
    runs = {"first ever": first, "later": later, "with a server running": served, "again, all reused": again}
    write(
        "starting",
        {
            "import, seconds": imports,
            "kd --help, seconds": helps,
            "runs": runs,
            "seconds to the teacher's first epoch, median": {
                name: statistics.median(one["first epoch"] for one in runs[name]) for name in list(runs)[:3]
            },
            "again, seconds beyond the start, median": round(
                statistics.median(one["total"] - one["stages"]["start"] for one in again), 2
            ),
        },
    )


if __name__ == "__main__":
    main()
