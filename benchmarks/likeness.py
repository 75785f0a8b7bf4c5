"""Measure how many copies of known images are found, and how many other images are mistaken for copies.

Run: python -m benchmarks.likeness

The test split of a dataset contains no training image. Every test image that is taken for a copy of a training image is
therefore a false match. To measure how many copies are found, test images are saved again as JPEG files or made
brighter, and are then compared with the original test images. MNIST is read from $KD_DATA.
"""

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import write
from kdmodels.data import Split, load_dataset
from kdmodels.data.likeness import descriptors, look_alike
from kdmodels.experiment import Data

SOURCES = ("digits", "mnist")
QUALITIES = (95, 90, 75, 50)


def saved_again(split: Split, quality: int) -> Split:
    """Return the images of a grey split after saving them as JPEG files of a given quality."""
    decoded = []
    for image in (split.images[:, 0] * 255).round().to(torch.uint8).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(io.BytesIO(file.getvalue()))))
    return Split(torch.from_numpy(np.stack(decoded))[:, None], split.labels, 255)


def brighter(split: Split) -> Split:
    """Return the images of a split, one grey level brighter."""
    return Split((split.images * 255).round().add(1).clamp(max=255).to(torch.uint8), split.labels, 255)


def row(source: str) -> dict[str, Any]:
    """Return the false matches and the found copies of one dataset, and the CPU time of the search in seconds."""
    data = load_dataset(Data(source=source), Path(os.environ["KD_DATA"]) if "KD_DATA" in os.environ else None)
    test = data.read_test()
    data.train.stored(torch.arange(len(data.train)))  # read the file before the clock starts
    began = time.process_time()
    known = descriptors([data.train, data.validation])
    described = time.process_time()
    images = descriptors([test])
    found = look_alike(images, known)
    searched = time.process_time()
    copies = {f"JPEG {quality}": saved_again(test, quality) for quality in QUALITIES}
    copies["one grey level brighter"] = brighter(test)
    return {
        "source": source,
        "known images": len(known),
        "test images": len(images),
        "false matches": int(found.sum()),
        "copies found": {
            name: float(look_alike(descriptors([split]), images).mean()) for name, split in copies.items()
        },
        "seconds to describe": round(described - began, 2),
        "seconds to search": round(searched - described, 2),
    }


def main() -> None:
    """Measure, print and write the result."""
    torch.set_num_threads(1)
    write("likeness", {"rows": [row(source) for source in SOURCES]})


if __name__ == "__main__":
    main()
