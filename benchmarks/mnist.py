"""Compare eight losses on MNIST with kdflow and with a plain script: python -m benchmarks.mnist

The folder `$KD_DATA` must contain MNIST/raw. The benchmark alternates between three measurements:

- the plain script, `benchmarks.plain`
- kdflow's training alone, in two processes that have already imported all modules
- the whole command `kd run`, with an empty store and an empty Prefect home

The script trains one student per round. Its time for a student is multiplied by 40 for 8 losses with 5 seeds each, and
by 8 for 8 losses with one seed each.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from math import inf
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient

from benchmarks.common import write
from kdmodels.data import Dataset, load_dataset
from kdmodels.device import keep_freed_memory
from kdmodels.experiment import Experiment
from kdmodels.experiment.file import read_experiment
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build
from kdmodels.training import fit

HERE = Path(__file__).parent
EXPERIMENT = HERE / "mnist.yaml"
KD = Path(sys.executable).with_name("kd")
STUDENTS = 1  # number of students that the script trains in each round
ROUNDS = 2
WORKERS = 2
PLACES = ["middle"]  # where `hint` takes features
SEEDS = (5, 1)
FIRST_EXPORT = """
import gc, time, torch
gc.disable()
began = time.perf_counter()
torch.export.export(torch.nn.Linear(1, 1), (torch.zeros(2, 1),))
print(time.perf_counter() - began)
"""


def plain() -> dict[str, Any]:
    """Run the script with the validation images of `kd run`. Return the seconds and the accuracies."""
    held_out = load_dataset(read_experiment(EXPERIMENT).data, Path(os.environ["KD_DATA"])).indices["validation"]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(held_out, file)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.plain", str(STUDENTS), file.name]
        result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


@cache
def prepared() -> tuple[Experiment, Dataset, tuple[Knowledge, Knowledge]]:
    """Return the experiment, the dataset and the knowledge, which are prepared once in each worker.

    The teacher is not trained, because this does not change the time of the students' training.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    experiment = read_experiment(EXPERIMENT)
    data = load_dataset(experiment.data, Path(os.environ["KD_DATA"]))
    network = experiment.teacher.network
    assert network is not None
    teacher = build(network, **data.signature)
    train, validation = (distil_knowledge(teacher, split, PLACES) for split in (data.train, data.validation))
    return experiment, data, (train, validation)


def get_ready(all_ready: Barrier) -> None:
    """Prepare this worker, and wait until all workers are prepared."""
    prepared()
    all_ready.wait()


def train(name: str, seeds: int) -> tuple[float, float]:
    """Train one variant in a worker. Return the times at which the training began and ended, in seconds."""
    experiment, data, both = prepared()
    (variant,) = [variant for variant in experiment.variants if variant.name == name]
    # As in kdflow, the stored features are read only if the variant compares features.
    knowledge = both if variant.teacher_places else (replace(both[0], features={}), replace(both[1], features={}))
    student, recipe = build(experiment.student.network, **data.signature), experiment.student
    began = time.monotonic()
    fit(student, variant.terms, recipe, data.train, data.validation, seeds=range(seeds), knowledge=knowledge)
    return began, time.monotonic()


def training(names: list[str], seeds: int) -> float:
    """Train all variants in this order. Return the seconds from the start of the first to the end of the last."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, spawning, get_ready, (spawning.Barrier(WORKERS),)) as pool:
        times = list(pool.map(train, names, [seeds] * len(names)))
    return max(ended for _, ended in times) - min(began for began, _ in times)


def first_export() -> float:
    """Return the seconds of the first `torch.export` in a process. Nearly all of this time is spent on imports."""
    words = [sys.executable, "-c", FIRST_EXPORT]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def command(seeds: int) -> dict[str, Any]:
    """Run the whole command `kd run` with nothing cached. Return its total time and its parts, in seconds.

    `overhead` is the time after the start in which no process trains or validates, divided by the time in which some
    process does. The time of a first export is subtracted from the overhead. Nearly all of this time is spent on the
    imports of torchvision, which reads MNIST. If these imports happened while the server was still starting, they are
    part of the start and are not subtracted again.
    """
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        store = f"sqlite:///{folder}/mlflow.db"
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": store,
            "PREFECT_HOME": f"{folder}/prefect",
            "XDG_CACHE_HOME": f"{folder}/cache",
        }
        words = [str(KD), "run", str(EXPERIMENT), "--json", "--set", f"student.seeds={seeds}"]
        began = time.perf_counter()
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        took = time.perf_counter() - began
        outcome = json.loads(done.stdout)
        runs = [run["run_id"] for run in [outcome["teacher"], *outcome["students"]]]
        client = MlflowClient(store)
        metrics = [client.get_metric_history(run, "seconds/training")[0] for run in runs]
    (classic,) = [student for student in outcome["students"] if student["variant"] == "classic"]
    trained = covered([(metric.timestamp / 1000 - metric.value, metric.timestamp / 1000) for metric in metrics])
    export = first_export()
    in_start = outcome["seconds"]["data"] < export
    rest = outcome["seconds"]["total"] - outcome["seconds"]["start"] - trained - (0 if in_start else export)
    return {
        "seconds": round(took, 1),
        "stages": outcome["seconds"],
        "training": [round(metric.value, 1) for metric in metrics],
        "something trains": round(trained, 1),
        "a first export, apart": round(export, 1),
        "overhead": round(rest / trained, 3),
        "classic": classic["per_seed"]["val/accuracy"],
    }


def covered(intervals: list[tuple[float, float]]) -> float:
    """Return the total length that the intervals (begin, end) cover.

    >>> covered([(0, 2), (1, 3), (5, 6)])
    4.0
    """
    length, reached = 0.0, -inf
    for begin, end in sorted(intervals):
        length += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return length


def main() -> None:
    """Measure, print and write the result."""
    # As in kdflow, train the variants that compare features first.
    variants = sorted(read_experiment(EXPERIMENT).variants, key=lambda variant: -len(variant.teacher_places))
    names = [variant.name for variant in variants]
    scripts = [plain()]
    trained: dict[int, list[float]] = {seeds: [] for seeds in SEEDS}
    commands: dict[int, list[dict[str, Any]]] = {seeds: [] for seeds in SEEDS}
    for _ in range(ROUNDS):
        for seeds in SEEDS:
            trained[seeds].append(round(training(names, seeds), 1))
            commands[seeds].append(command(seeds))
        scripts.append(plain())
    student = statistics.median(seconds for script in scripts for seconds in script["students"])
    teacher = statistics.median(script["teacher"] for script in scripts)
    students = {seeds: student * len(names) * seeds for seeds in SEEDS}
    whole = {seeds: statistics.mean(result["seconds"] for result in commands[seeds]) for seeds in SEEDS}
    accuracies = [value for script in scripts for value in script["accuracies"][1:]]
    write(
        "mnist",
        {
            "script": scripts,
            "training, seconds": trained,
            "kd run": commands,
            "script / training": {
                seeds: round(students[seeds] / statistics.mean(trained[seeds]), 1) for seeds in SEEDS
            },
            "script / kd run": {seeds: round((teacher + students[seeds]) / whole[seeds], 1) for seeds in SEEDS},
            "overhead": {
                seeds: round(statistics.mean(result["overhead"] for result in commands[seeds]), 3) for seeds in SEEDS
            },
            "validation accuracy, mean": {
                "script": round(statistics.mean(accuracies), 4),
                "classic": round(statistics.mean(commands[SEEDS[0]][0]["classic"]), 4),
            },
        },
    )


if __name__ == "__main__":
    main()
