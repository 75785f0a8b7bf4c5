"""Classification of image files by a registered model, for `kd predict`."""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kdmodels.data.images import find_images, read_readable_images, unreadable_in_words
from kdmodels.errors import UserError
from kdmodels.files.atomic import write_output
from kdmodels.text import escaped
from tasks import tracking
from tasks.tracking.served import load_model
from tasks.tracking.tags import GENERATOR, Tag

BATCH = 256


class Prediction(BaseModel):
    """A class of one image, and the probability that the model gives to the class.

    Attributes:
        file: The path of the image file. The user named this file, or the folder that contains the file.
        name: The name of the class.
        index: The index of the class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    name: str = Field(serialization_alias="class")
    index: int
    probability: float


class SubmissionLine(BaseModel):
    """One line of a competition submission.

    The line holds the name of an image file without its suffix, and the index of the predicted class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(serialization_alias="Id")
    category: int = Field(serialization_alias="Category")


@dataclass(frozen=True)
class Predictions:
    """The predictions for image files.

    Attributes:
        rows: For each image, its most probable classes, the most probable first. The images have the order of the
            paths. Within a folder, images are sorted by file name.
        skipped: The error of each file that can't be read as an image.
    """

    rows: list[Prediction]
    skipped: dict[Path, Exception]


def predict(
    model: str,
    paths: list[Path],
    *,
    top: int = 1,
    skip: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """Return the most probable classes of each image, as predicted by a registered model.

    Args:
        model: A registered model: `name`, `name@alias`, `name/3` or a `models:/` URI.
        paths: Image files and folders of images. Each image is converted to the colours and the size that the model
            expects.
        top: Maximum number of classes for each image.
        skip: Whether to leave out files that can't be read as images.
        report: Function that is called with the number of finished files and the number of all files.

    Raises:
        UserError: there is no such model or file, a file is not an image and is not skipped, no file is an image, or
            kdflow did not make the model.
    """
    files = find_images(paths)
    tracking.configure()
    version = tracking.find_model(model)
    if version.tags.get(Tag.KIND) == GENERATOR:
        raise UserError(f"model {model!r} is a generator, which makes images (kd sample). Allowed: a classifier")
    served = load_model(version.uri)
    if not served.classes:
        raise UserError(f"model {model!r} names no classes; allowed: a model of a kd run")
    found = Predictions([], {})
    for begin in range(0, len(files), BATCH):
        batch = files[begin : begin + BATCH]
        images, unreadable = read_readable_images(batch, served.input_shape)
        if unreadable and not skip:
            raise UserError(f"{unreadable_in_words(unreadable)}. --skip leaves these files out")
        found.skipped.update(unreadable)
        readable = [file for file in batch if file not in unreadable]
        found.rows.extend(_most_probable(readable, _softmax(served(images)), served.classes, top) if readable else [])
        report(min(begin + BATCH, len(files)), len(files))
    if not found.rows:
        raise UserError(unreadable_in_words(found.skipped))
    return found


def _most_probable(
    files: Sequence[Path], probabilities: np.ndarray, classes: Sequence[str], top: int
) -> list[Prediction]:
    """Return the `top` most probable classes of each image, from probabilities (B, K)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]  # (B, top)
    return [
        Prediction(file=str(file), name=classes[index], index=int(index), probability=float(row[index]))
        for file, row, best in zip(files, probabilities, order, strict=True)
        for index in best
    ]


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (B, K) of logits (B, K). Importing scipy's softmax instead would take 1 s."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def as_submission(predictions: Sequence[Prediction]) -> list[SubmissionLine]:
    """Return the predictions in the format of competition submissions.

    >>> as_submission([Prediction(file="test/0001.jpg", name="Bread", index=0, probability=0.9)])
    [SubmissionLine(id='0001', category=0)]

    Raises:
        UserError: two lines would have the same id.
    """
    files: dict[str, str] = {}
    for prediction in predictions:
        name = Path(prediction.file).stem
        if name in files:
            raise UserError(f"--submission: {files[name]} and {prediction.file} would both be Id {name}")
        files[name] = prediction.file
    return [SubmissionLine(id=Path(row.file).stem, category=row.index) for row in predictions]


def write_csv(lines: Sequence[BaseModel], path: Path | None = None) -> None:
    """Write lines as CSV to a file or to stdout.

    A file is written completely or not at all. If stdout is a terminal, control characters in names are escaped.

    Args:
        lines: One or more lines.
        path: The path of the file. Default: stdout.

    Raises:
        UserError: the file can't be written.
    """
    rows = [line.model_dump(by_alias=True) for line in lines]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if path is None:
        sys.stdout.write(escaped(text.getvalue(), keep="\n") if sys.stdout.isatty() else text.getvalue())
        return
    try:
        write_output(path, text.getvalue())
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from error
