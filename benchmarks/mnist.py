"""Eight losses on MNIST, against the script that everybody writes: python -m benchmarks.mnist

`$KD_DATA` holds MNIST/raw. The script (`benchmarks.plain`) runs first and last, and what it takes for one student is
taken 40 times, or 8 times for one seed of each loss. Beside it stand the training alone, in two processes that have
imported everything, and the whole command with an empty store and an empty Prefect home.
"""

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from kdmodels.data import Dataset, load_dataset
from kdmodels.experiment import Experiment
from kdmodels.experiment_file import read_experiment
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build
from kdmodels.training import fit

HERE = Path(__file__).parent
EXPERIMENT = HERE / "mnist.yaml"
STUDENTS = 3  # of the script, each time
WORKERS = 2
PLACES = ["middle"]  # that `hint` taps
SEEDS = (5, 1)


def plain() -> dict[str, Any]:
    """The script's seconds and accuracies."""
    command = [sys.executable, "-m", "benchmarks.plain", str(STUDENTS)]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


@cache
def prepared() -> tuple[Experiment, Dataset, tuple[Knowledge, Knowledge]]:
    """In a worker: what training needs, made once. The teacher is untrained, which takes no other time."""
    torch.set_num_threads(1)
    experiment = read_experiment(EXPERIMENT)
    data = load_dataset(experiment.data, Path(os.environ["KD_DATA"]))
    network = experiment.teacher.network
    assert network is not None
    teacher = build(network, **data.signature)
    train, validation = (distil_knowledge(teacher, split, PLACES) for split in (data.train, data.validation))
    return experiment, data, (train, validation)


def get_ready(all_ready: Barrier) -> None:
    """In a worker: wait until every one of them has what it needs."""
    prepared()
    all_ready.wait()


def train(name: str, seeds: int) -> tuple[float, float]:
    """In a worker: when one variant's training began and ended."""
    experiment, data, knowledge = prepared()
    (variant,) = [variant for variant in experiment.variants if variant.name == name]
    student, recipe = build(experiment.student.network, **data.signature), experiment.student
    began = time.monotonic()
    fit(student, variant.terms, recipe, data.train, data.validation, seeds=range(seeds), knowledge=knowledge)
    return began, time.monotonic()


def training(names: list[str], seeds: int) -> float:
    """The seconds of all variants' training, from the first one's beginning to the last one's end."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, spawning, get_ready, (spawning.Barrier(WORKERS),)) as pool:
        times = list(pool.map(train, names, [seeds] * len(names)))
    return max(ended for _, ended in times) - min(began for began, _ in times)


def command(seeds: int) -> dict[str, Any]:
    """The whole of `kd run`, nothing cached: its seconds, and what it says."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PREFECT_HOME": folder}
        words = [Path(sys.executable).with_name("kd"), "run", EXPERIMENT, "--json", "--set", f"student.seeds={seeds}"]
        began = time.perf_counter()
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        told = json.loads(done.stdout)
        (classic,) = [student for student in told["students"] if student["variant"] == "classic"]
        return {
            "seconds": time.perf_counter() - began,
            "stages": told["seconds"],
            "classic": classic["metrics"]["val/accuracy"],
        }


def main() -> None:
    """Measure, print and write the result."""
    names = [variant.name for variant in read_experiment(EXPERIMENT).variants]
    scripts = [plain()]
    trained = {seeds: training(names, seeds) for seeds in SEEDS}
    commands = {seeds: command(seeds) for seeds in SEEDS}
    scripts.append(plain())
    student = statistics.median(seconds for script in scripts for seconds in script["students"])
    teacher = statistics.median(script["teacher"] for script in scripts)
    script_accuracy = statistics.mean(value for script in scripts for value in script["accuracies"][1:])
    count = len(names)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "script": scripts,
        "training, seconds": trained,
        "kd run": commands,
        "script / training": {seeds: round(student * count * seeds / trained[seeds], 1) for seeds in SEEDS},
        "script / kd run": {
            seeds: round((teacher + student * count * seeds) / commands[seeds]["seconds"], 1) for seeds in SEEDS
        },
        "validation accuracy": {"script": script_accuracy, "classic": commands[SEEDS[0]]["classic"]},
    }
    (HERE / "results" / "mnist.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
