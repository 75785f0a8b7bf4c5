"""Load a dataset of 3 GB, and measure how little memory this needs: python -m benchmarks.large

One million random images of 32x32x3 bytes in an .npz file are loaded, and then read once in random batches. The
benchmark measures by how much the peak of private memory (`RssAnon`) grows, with a sample every 10 ms. Pages of mapped
files are not included, because the system drops them when it needs memory. The benchmark needs 10 GB of disk space.
"""

import json
import os
import platform
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from kdmodels.data import Dataset, load_dataset
from kdmodels.experiment import Data
from kdmodels.randomness import generator_for

IMAGES, CLASSES, SHAPE = 1_000_000, 100, (3, 32, 32)
CHUNK, BATCH = 10_000, 256
T = TypeVar("T")


def write_images(path: Path) -> None:
    """Write random images and labels in chunks."""
    generator = np.random.default_rng(0)
    header = {"descr": "|u1", "fortran_order": False, "shape": (IMAGES, *SHAPE)}
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(IMAGES // CHUNK):
                file.write(generator.integers(0, 256, (CHUNK, *SHAPE), dtype=np.uint8).data)
        with archive.open("labels.npy", "w") as file:
            np.lib.format.write_array(file, generator.integers(0, CLASSES, IMAGES))


def own_megabytes() -> float:
    """Return the private memory of this process in 1e6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon"))


def measured(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Return the result of one call, its seconds, and the peak of private memory during the call."""
    done, peak = threading.Event(), [own_megabytes()]

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], own_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        result = work()
    finally:
        done.set()
        watcher.join()
    return result, {"seconds": round(time.perf_counter() - began, 1), "peak_mb": round(peak[0], 1)}


def one_pass(data: Dataset) -> int:
    """Read every training image once, in random order. Return the number of images."""
    order = torch.randperm(len(data.train), generator=generator_for(0, "order"))
    return sum(len(data.train.batch(rows)) for rows in order.split(BATCH))


def main() -> None:
    """Measure, print and write the result."""
    with tempfile.TemporaryDirectory(prefix="kdflow-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        path = Path(folder) / "images.npz"
        write_images(path)
        wanted = Data(source=str(path))
        before = own_megabytes()
        first = measured(lambda: load_dataset(wanted))[1]
        data, again = measured(lambda: load_dataset(wanted))
        count, read = measured(lambda: one_pass(data))
    steps = {"first load": first, "load from the cache": again, f"a pass over {count} images": read}
    for figures in steps.values():
        figures["growth_mb"] = round(figures.pop("peak_mb") - before, 1)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")},
        "images": [IMAGES, *SHAPE],
        "pixels_mb": IMAGES * np.prod(SHAPE, dtype=int).item() / 1e6,
        "steps": steps,
    }
    print(json.dumps(result, indent=1))
    target = Path(__file__).with_name("results") / "large.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
