"""Measure training steps on a GPU: python -m benchmarks.gpu [--device cuda] [--steps 50] [--batch 128]

The result is written to benchmarks/results/gpu.json. Random images of CIFAR's size are used. It answers three
questions, in float32 and in bfloat16, each with the median time of a training step:

- How much longer does a step of 8 seeds take than a step of 1 seed? For resnet8x4, and for a network of linear layers.
- How much longer does a step of `fit` take than a step of a plain PyTorch loop with the same network and batch size?
- How much longer does a step take if the teacher, resnet32x4, runs on every batch than with stored teacher outputs?

A step is timed from its start to the start of the next step, after the GPU has finished its work. The first steps of a
training are warm-up.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common import write
from benchmarks.step import SHAPE, images
from kdmodels.data import Split
from kdmodels.device import find_device, keep_freed_memory
from kdmodels.experiment import Network, Recipe
from kdmodels.experiment.terms import Term
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import build
from kdmodels.training import fit
from kdmodels.training.fit import TeacherOutputs

ROUNDS, WARM = 3, 3
LABELS = [Term(loss="hard_labels")]
KD = [*LABELS, Term(loss="soft_targets")]
RATIOS = {
    "8 seeds / 1 seed": ("8 seeds", "1 seed"),
    "8 seeds / 1 seed, linear layers": ("8 seeds, linear layers", "1 seed, linear layers"),
    "fit / plain loop": ("1 seed", "plain loop"),
    "teacher in the loop / stored outputs": ("teacher in the loop", "stored outputs"),
}
Precision = Literal["float32", "bfloat16"]


class Clock:
    """The times at which training steps start, after the device has finished all earlier work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begun: list[float] = []

    def __call__(self) -> None:
        """Record the start of a step."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.begun.append(time.perf_counter())

    def seconds(self, steps: int) -> float:
        """Return the median seconds of a step of all seeds, and forget the recorded times.

        `fit` trains the seeds of a convolutional network one after the other. Their steps are added up.

        Args:
            steps: Number of steps of one seed.
        """
        trainings = [self.begun[first : first + steps] for first in range(0, len(self.begun), steps)]
        self.begun = []
        return sum(statistics.median(after - before for before, after in pairwise(each[WARM:])) for each in trainings)


def plain_loop(train: Split, recipe: Recipe, device: torch.device, clock: Clock) -> None:
    """Train resnet8x4 for one epoch by an ordinary PyTorch loop, with all images on the device."""
    network = build(Network(name="resnet8x4"), **SHAPE).to(device).train()
    pixels, labels = train.pixels.to(device), train.labels.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=0.9, fused=True)
    for rows in torch.randperm(len(train), device=device).split(recipe.batch):
        clock()
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = network(pixels[rows].float() / 255)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels[rows]).backward()
        optimizer.step()


def measure(device: torch.device, steps: int, batch: int, precision: Precision) -> dict[str, Any]:
    """Return the seconds of a step of each kind of training, in each round, and the ratios of their medians."""
    teacher, student = (build(Network(name=name), **SHAPE).eval().to(device) for name in ("resnet32x4", "resnet8x4"))
    linear = build(Network(mlp=[256]), **SHAPE)
    count = steps + WARM + 1
    train, validation = images(count * batch), images(2)
    recipe = Recipe(epochs=1, batch=batch, precision=precision, optimizer={"sgd": {"lr": 0.05, "momentum": 0.9}})
    stored = (distil_knowledge(teacher, train, []), distil_knowledge(teacher, validation, []))
    live = (LiveTeacher(teacher, []), LiveTeacher(teacher, []))
    clock = Clock(device)

    def training(
        network: nn.Module, terms: Sequence[Term] = LABELS, knowledge: TeacherOutputs | None = None, seeds: int = 1
    ) -> Callable[[], object]:
        return lambda: fit(network, terms, recipe, train, validation,
                           seeds=range(seeds), knowledge=knowledge, device=device, on_step=clock)  # fmt: skip

    ways = {
        "plain loop": lambda: plain_loop(train, recipe, device, clock),
        "1 seed": training(student),
        "8 seeds": training(student, seeds=8),
        "1 seed, linear layers": training(linear),
        "8 seeds, linear layers": training(linear, seeds=8),
        "stored outputs": training(student, KD, stored),
        "teacher in the loop": training(student, KD, live),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):  # the ways alternate, so that a disturbance affects all of them
        for way, work in ways.items():
            work()
            seconds[way].append(round(clock.seconds(count), 6))
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    return {
        "seconds of a step": seconds,
        "ratios": {name: round(medians[over] / medians[under], 2) for name, (over, under) in RATIOS.items()},
    }


def main(words: Sequence[str]) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser("benchmarks.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args(words)
    device = find_device(given.device)
    keep_freed_memory()  # as in every run of kdflow
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    results: dict[str, Any] = {each: measure(device, given.steps, given.batch, each) for each in precisions}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    write("gpu", {"device": name, "batch": given.batch, "steps": given.steps, **results})


if __name__ == "__main__":
    main(sys.argv[1:])
