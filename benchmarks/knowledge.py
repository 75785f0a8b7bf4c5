"""A million examples' knowledge: python -m benchmarks.knowledge [EXAMPLES]

What a teacher that costs next to nothing says of a million images of 2x2 bytes, 100 logits each in float16, is stored
as `kd run` stores it, and a student of 8 hidden units learns from it for an epoch. Memory is the growth of the peak
above what there is before: `RssAnon` is the process's own, `VmRSS` has the pages of mapped files too, which the system
drops when it needs the room. Then it is read, 256 rows at a time, in random order and as it is stored: with images and
labels as training does, as knowledge alone, and by torch from the mapped file; beside that, the whole file as bytes.
`disk` means that the system was told to drop the file before, `memory` that it holds all of it.
"""

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import memory, peaks, write
from kdmodels.data import Split
from kdmodels.device import keep_freed_memory
from kdmodels.experiment import Network, Recipe
from kdmodels.knowledge import LOGITS, Knowledge, load_knowledge, store_knowledge
from kdmodels.networks import build
from kdmodels.objectives import PRESETS
from kdmodels.training import fit
from kdmodels.training.batches import Batches, order

EXAMPLES, VALIDATION, CLASSES, BATCH, ROUNDS = 1_000_000, 1_000, 100, 256, 5
SHAPE: dict[str, Any] = {"input_shape": (1, 2, 2), "classes": CLASSES, "mean": [0.5], "std": [0.3]}
WAYS: dict[str, Callable[[Split, Knowledge], Callable[[Tensor], object]]] = {
    "training": lambda split, known: Batches(split, [known]).batch,
    "knowledge": lambda split, known: lambda rows: known.of(rows, split.pixels),
    "torch": lambda split, known: lambda rows: known.logits.index_select(0, rows),
}


def images(examples: int, path: Path) -> Split:
    """Random images, mapped from that file, and labels."""
    generator = np.random.default_rng(0)
    np.save(path, generator.integers(0, 256, (examples, 1, 2, 2), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, CLASSES, examples))
    return Split(torch.from_numpy(np.load(path, mmap_mode="c")), labels, top=255)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes once."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def grown(work: Callable[[], object], before: dict[str, float]) -> dict[str, float]:
    """Its seconds, and how far it lets memory grow."""
    with peaks(memory) as most:
        took = seconds(work)
    return {"seconds": round(took, 1), **{f"{name}_growth_mb": round(most[name] - before[name], 1) for name in most}}


def read(split: Split, folder: Path, way: str, rows: Tensor) -> None:
    """Read these rows once, in their order, a batch at a time."""
    one_batch = WAYS[way](split, load_knowledge(folder))
    for batch in rows.split(BATCH):
        one_batch(batch)


def read_whole(path: Path) -> None:
    """Read a file from its beginning to its end."""
    with path.open("rb", buffering=0) as file:
        while file.read(2**20):
            pass


def drop(path: Path) -> None:
    """Let the system forget what it holds of a file that is not mapped."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(examples: int = EXAMPLES) -> None:
    """Measure, print and write the result."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="kdflow-") as name:
        folder, learnt, checked = (Path(name, part) for part in ("", "train", "validation"))
        train, validation = (images(n, folder / f"{n}.npy") for n in (examples, VALIDATION))
        teacher, student = (build(Network(mlp=[width]), **SHAPE) for width in (1, 8))
        recipe, terms = Recipe(batch=BATCH, epochs=1), PRESETS["kd"].terms
        store_knowledge(teacher, validation, [LOGITS], checked)

        def epoch() -> None:
            known = load_knowledge(learnt), load_knowledge(checked)
            fit(student, terms, recipe, train, validation, seeds=[0], knowledge=known)

        before = memory()
        steps = {
            "making it": grown(lambda: store_knowledge(teacher, train, [LOGITS], learnt), before),
            "an epoch of training": grown(epoch, before),
        }
        gc.collect()  # training leaves cycles, which have the file mapped
        path = learnt / f"{LOGITS}.npy"
        size = path.stat().st_size / 1e6
        orders = {"random": order(examples, 0, 1), "stored": torch.arange(examples)}
        passes: dict[str, Callable[[], object]] = {"whole file": partial(read_whole, path)}
        for how, way in product(orders, WAYS):
            passes[f"{way}, {how}"] = partial(read, train, learnt, way, orders[how])
        rates: dict[str, list[float]] = {}
        for _, (what, work) in product(range(ROUNDS), passes.items()):
            drop(path)
            for source in ("disk", "memory"):
                rates.setdefault(f"{what}, {source}", []).append(round(size / seconds(work)))
    told = {"examples": examples, "knowledge_mb": round(size, 1), "steps": steps}
    rated = {what: {"median": statistics.median(values), "all": values} for what, values in rates.items()}
    write("knowledge", {**told, "MB/s": rated})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
