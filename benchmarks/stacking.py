"""Compare the time of 8 seeds in one call of `fit` with 8 calls and with one seed: python -m benchmarks.stacking

In one call, the seeds of an MLP are stacked into one computation, and the seeds of a convolutional network are trained
side by side (see LOG.md). The images are random and have MNIST's size, because only the speed is measured. Tests check
that the results agree.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import turns, write
from kdmodels.data import Split
from kdmodels.device import keep_freed_memory
from kdmodels.experiment import Network, Recipe
from kdmodels.experiment.presets import PRESETS
from kdmodels.knowledge import Knowledge, distil_knowledge
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import fit

SEEDS = 8
ROUNDS = 5
SHAPE: dict[str, Any] = {"input_shape": (1, 28, 28), "classes": 10, "mean": [0.1307], "std": [0.3081]}
PAIRS = {  # student, teacher, examples
    "mlp": (Network(mlp=[32]), Network(mlp=[128, 64]), 12_800),
    "conv": (Network(conv=[4, 8, 16]), Network(conv=[16, 32, 64]), 1_280),
}


def images(examples: int, purpose: str) -> Split:
    """Return a split of random images and labels."""
    generator = generator_for(0, purpose)
    pixels = torch.randint(256, (examples, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(10, (examples,), generator=generator), top=255)


def ways(pair: str) -> dict[str, Callable[[], object]]:
    """Return the three ways to train: one seed, all seeds in one call of `fit`, and all seeds one after the other."""
    shape, teachers, examples = PAIRS[pair]
    train, validation = images(examples, "train"), images(1_000, "validation")
    student, teacher = build(shape, **SHAPE), build(teachers, **SHAPE)
    knowledge: tuple[Knowledge, Knowledge] = (distil_knowledge(teacher, train), distil_knowledge(teacher, validation))

    def one_fit(seeds: range) -> None:
        fit(student, PRESETS["kd"].terms, Recipe(epochs=1), train, validation, seeds=seeds, knowledge=knowledge)

    def in_turn() -> None:
        for seed in range(SEEDS):
            one_fit(range(seed, seed + 1))

    return {
        f"{pair}, 1 seed": lambda: one_fit(range(1)),
        f"{pair}, {SEEDS} seeds": lambda: one_fit(range(SEEDS)),
        f"{pair}, {SEEDS} in turn": in_turn,
    }


def main() -> None:
    """Measure, print and write the result."""
    torch.set_num_threads(1)  # as in the shipped experiments
    keep_freed_memory()
    every = {way: work for pair in PAIRS for way, work in ways(pair).items()}
    times = turns(every, 1 + ROUNDS)
    median = {way: statistics.median(values[1:]) for way, values in times.items()}
    against = {
        other: {pair: round(median[f"{pair}, {SEEDS} seeds"] / median[f"{pair}, {other}"], 2) for pair in PAIRS}
        for other in ("1 seed", f"{SEEDS} in turn")
    }
    ratios = {f"{SEEDS} seeds / {other}": by_pair for other, by_pair in against.items()}
    write("stacking", {"seconds, the first a warm-up": times, **ratios})


if __name__ == "__main__":
    main()
