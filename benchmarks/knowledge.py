"""Store and read the knowledge of a million examples: python -m benchmarks.knowledge [EXAMPLES]

The images have 2x2 pixels. A tiny teacher computes 100 logits for each image, which are stored in float16, as `kd run`
stores them. Then a student with 8 hidden units is trained for one epoch. The benchmark measures by how much the peak of
memory grows. `RssAnon` is private memory. `VmRSS` also includes pages of mapped files, which the system drops when it
needs memory.

Then the knowledge is read in batches of 256 rows, in random order and in stored order. It is read in three ways: with
images and labels as in training, alone, and by torch from the mapped file. For comparison, the whole file is read as
bytes. Each reading is done twice. For `disk`, the system has first dropped the file from its cache. For `memory`, the
whole file is cached.
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
from kdmodels.experiment.presets import PRESETS
from kdmodels.knowledge import LOGITS, Knowledge, load_knowledge, store_knowledge
from kdmodels.networks import build
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
    """Return a split with random labels and with random images that are mapped from a file."""
    generator = np.random.default_rng(0)
    np.save(path, generator.integers(0, 256, (examples, 1, 2, 2), dtype=np.uint8))
    labels = torch.from_numpy(generator.integers(0, CLASSES, examples))
    return Split(torch.from_numpy(np.load(path, mmap_mode="c")), labels, top=255)


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def grown(work: Callable[[], object], before: dict[str, float]) -> dict[str, float]:
    """Return the seconds of one call, and by how much its peak memory exceeds the memory `before`."""
    with peaks(memory) as most:
        took = seconds(work)
    return {"seconds": round(took, 1), **{f"{name}_growth_mb": round(most[name] - before[name], 1) for name in most}}


def read(split: Split, folder: Path, way: str, rows: Tensor) -> None:
    """Read the given rows once, in batches, in one of the ways in `WAYS`."""
    one_batch = WAYS[way](split, load_knowledge(folder))
    for batch in rows.split(BATCH):
        one_batch(batch)


def read_whole(path: Path) -> None:
    """Read a file from its beginning to its end."""
    with path.open("rb", buffering=0) as file:
        while file.read(2**20):
            pass


def drop(path: Path) -> None:
    """Ask the system to drop a file from its cache. The file must not be mapped."""
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
        gc.collect()  # training leaves reference cycles that keep the file mapped
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
    rated = {what: {"median": statistics.median(values), "all": values} for what, values in rates.items()}
    write("knowledge", {"examples": examples, "knowledge_mb": round(size, 1), "steps": steps, "MB/s": rated})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
