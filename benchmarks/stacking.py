"""Seeds of one student trained stacked, against one after the other: python -m benchmarks.stacking

Ratios of medians, the ways taking turns in one process. The data are random images of MNIST's size: speed alone is
measured here, that the results agree is tested in tests/kdmodels/training.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from kdmodels.data import Split
from kdmodels.experiment import Network, Recipe
from kdmodels.knowledge import distil_knowledge
from kdmodels.networks import build
from kdmodels.objectives import PRESETS
from kdmodels.randomness import stream
from kdmodels.training import fit

SEEDS = (1, 3, 8)
ROUNDS = 5
SHAPE = {"input_shape": (1, 28, 28), "classes": 10, "mean": [0.1307], "std": [0.3081]}


def images(examples: int, purpose: str) -> Split:
    """Random images and labels."""
    generator = stream(0, purpose)
    return Split(
        torch.rand(examples, 1, 28, 28, generator=generator), torch.randint(10, (examples,), generator=generator)
    )


def seconds(work: Callable[[], object]) -> float:
    """How long it takes once."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure, print and write the result."""
    train, validation = images(12_800, "train"), images(1_000, "validation")
    student, teacher = (build(Network(mlp=mlp), **SHAPE) for mlp in ([32], [128, 64]))
    knowledge = (distil_knowledge(teacher, train), distil_knowledge(teacher, validation))

    def one_fit(seeds: range) -> None:
        fit(student, PRESETS["kd"].terms, Recipe(epochs=1), train, validation, seeds=seeds, knowledge=knowledge)

    ways: dict[str, Callable[[], object]] = {}
    for count in SEEDS:
        ways[f"{count} stacked"] = lambda count=count: one_fit(range(count))
        ways[f"{count} in turn"] = lambda count=count: [one_fit(range(seed, seed + 1)) for seed in range(count)]
    for work in ways.values():
        work()  # a warm-up
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, work in ways.items():
            times[way].append(round(seconds(work), 4))
    median = {way: statistics.median(values) for way, values in times.items()}
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "seconds": times,
        "stacked / in turn": {n: round(median[f"{n} stacked"] / median[f"{n} in turn"], 3) for n in SEEDS},
        "stacked / 1 seed": {n: round(median[f"{n} stacked"] / median["1 stacked"], 3) for n in SEEDS},
    }
    path = Path(__file__).parent / "results" / "stacking.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
