"""Compare a student's step with stored knowledge and with a teacher that runs on every batch: python -m benchmarks.step

resnet32x4 teaches resnet8x4 on random images of CIFAR's size, in batches of 64. One objective uses the teacher's
logits, and the other objective uses logits and embeddings. Both ways call `fit`. The time of a step is measured from
its start to the start of the next step, so neither the start of `fit` nor the validation counts. The first step is a
warm-up.
"""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from benchmarks.common import turns, write
from kdmodels.data import Split
from kdmodels.device import keep_freed_memory
from kdmodels.experiment import Network, Recipe
from kdmodels.experiment.terms import Term
from kdmodels.knowledge import LiveTeacher, distil_knowledge
from kdmodels.networks import build
from kdmodels.randomness import generator_for
from kdmodels.training import fit

STEPS, BATCH, ROUNDS = 6, 64, 4
SHAPE: dict[str, Any] = {"input_shape": (3, 32, 32), "classes": 100, "mean": [0.5] * 3, "std": [0.25] * 3}
OBJECTIVES = {
    "logits": [Term(loss="hard_labels"), Term(loss="soft_targets")],
    "logits and embeddings": [Term(loss="hard_labels"), Term(loss="soft_targets"), Term(loss="cosine_features")],
}


def images(examples: int) -> Split:
    """Return a split of random images and labels."""
    generator = generator_for(0, "images")
    pixels = torch.randint(256, (examples, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(100, (examples,), generator=generator), top=255)


def main() -> None:
    """Measure, print and write the result."""
    keep_freed_memory()  # as in every run of kdflow
    teacher, student = (build(Network(name=name), **SHAPE).eval() for name in ("resnet32x4", "resnet8x4"))
    train, validation = images(STEPS * BATCH), images(2)
    ways: dict[str, Callable[[], object]] = {}
    steps: dict[str, list[float]] = {}
    for name, terms in OBJECTIVES.items():
        places = [there for term in terms for _, there in term.pairs]
        stored = (distil_knowledge(teacher, train, places), distil_knowledge(teacher, validation, places))
        live = (LiveTeacher(teacher, places), LiveTeacher(teacher, places))
        for way, knowledge in ((f"{name}, stored", stored), (f"{name}, in the loop", live)):
            steps[way] = []

            def one_fit(way: str = way, terms: list[Term] = terms, knowledge: object = knowledge) -> None:
                begun: list[float] = []
                recipe = Recipe(epochs=1, batch=BATCH)
                fit(student, terms, recipe, train, validation, seeds=[0], knowledge=knowledge,  # type: ignore[arg-type]
                    on_step=lambda: begun.append(time.perf_counter()))  # fmt: skip
                steps[way] += [round(after - before, 4) for before, after in pairwise(begun[1:])]

            ways[way] = one_fit
    turns(ways, ROUNDS)
    a_step = {way: round(statistics.median(seconds), 4) for way, seconds in steps.items()}
    write(
        "step",
        {
            "threads": torch.get_num_threads(),
            "seconds of steps": steps,
            "seconds a step": a_step,
            "in the loop / stored": {
                name: round(a_step[f"{name}, in the loop"] / a_step[f"{name}, stored"], 2) for name in OBJECTIVES
            },
        },
    )


if __name__ == "__main__":
    main()
