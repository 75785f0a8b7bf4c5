"""Classes of image files, from a registered model: what `kd predict` prints."""

import csv
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from kdmodels.data.images import find_images, read_images
from kdmodels.durable import write_output
from kdmodels.errors import UserError
from kdmodels.text import escaped
from tasks import tracking
from tasks.tracking.served import load_model

BATCH = 256


def predict(model: str, paths: list[Path]) -> list[dict[str, Any]]:
    """The most probable class of each image, through the model as it is served.

    Args:
        model: a MODEL of the registry.
        paths: image files, and folders of them; grey or colour and size become what the model takes.
    Returns:
        file (as given, or found in the folder given), class (its name), index (of the class) and probability, in the
        order of the paths, and in a folder of the names.
    Raises:
        UserError: no such model or file, a file is not an image, or the model is not one of kdflow's.
    """
    files = find_images(paths)
    tracking.configure()
    served = load_model(tracking.find_model(model).uri)
    if not served.classes:
        raise UserError(f"model {model!r} names no classes; allowed: a model of a kd run")
    rows: list[dict[str, Any]] = []
    for begin in range(0, len(files), BATCH):
        batch = files[begin : begin + BATCH]
        probabilities = _softmax(served(read_images(batch, served.input_shape)))  # (B, K)
        rows += [
            {"file": str(file), "class": served.classes[best], "index": int(best), "probability": float(row[best])}
            for file, row, best in zip(batch, probabilities, probabilities.argmax(axis=1), strict=True)
        ]
    return rows


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (B, K) of logits (B, K). scipy's takes a second to import."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def as_submission(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as competitions want them: Id, the file's name without its suffix, and Category, the class's index.

    >>> as_submission([{"file": "test/0001.jpg", "class": "Bread", "index": 0, "probability": 0.9}])
    [{'Id': '0001', 'Category': 0}]

    Raises:
        UserError: two files would have the same Id.
    """
    files: dict[str, str] = {}
    for row in rows:
        name = Path(row["file"]).stem
        if name in files:
            raise UserError(f"--submission: {files[name]} and {row['file']} would both be Id {name}")
        files[name] = row["file"]
    return [{"Id": Path(row["file"]).stem, "Category": row["index"]} for row in rows]


def write_csv(rows: list[dict[str, Any]], path: Path | None = None) -> None:
    """Write the rows as CSV with the first one's columns, whole or not at all; None is stdout.

    A terminal gets control characters of names escaped.

    Raises:
        UserError: the file can't be written.
    """
    text = StringIO(newline="")
    _write(rows, text)
    if path is None:
        whole = text.getvalue()
        sys.stdout.write(escaped(whole, keep="\n") if sys.stdout.isatty() else whole)
        return
    try:
        write_output(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from error


def _write(rows: list[dict[str, Any]], file: Any) -> None:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
