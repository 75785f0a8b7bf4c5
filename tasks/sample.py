"""Images that a registered generator makes, for `kd sample`. This module does not import torch."""

from pathlib import Path

import numpy as np

from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.files.atomic import write_output
from kdmodels.serving.generator_file import ServedGenerator
from tasks import tracking
from tasks.tracking.served import load_generator
from tasks.tracking.tags import GENERATOR, Tag


def find_generator(model: str) -> tracking.Version:
    """Return the version of a registered generator that the user specified.

    Args:
        model: A registered model: `name`, `name@alias`, `name/3` or a `models:/` URI.

    Raises:
        UsageError: There is no such model, or it is not a generator.
    """
    tracking.configure()
    version = tracking.find_model(model)
    if version.tags.get(Tag.KIND) != GENERATOR:
        raise UsageError(f"model {model!r} is not a generator. Allowed: a generator, e.g. of kd run vae-mnist")
    return version


def sample(model: str, count: int, *, name: str | None = None, seed: int = 0) -> tuple[np.ndarray, ServedGenerator]:
    """Return images of a registered generator, (count, C, H, W) in [0, 1], and the generator.

    Args:
        model: See `find_generator`.
        count: Number of images.
        name: Class of all images. Default: the classes take turns.
        seed: Seed of the images. The same model and seed give the same images.

    Raises:
        UserError: There is no such model or class, the model is not a generator, or it does not take a class.
    """
    served = load_generator(find_generator(model).uri)
    if name is not None and not served.conditional:
        raise UsageError(
            f"--class {name}: {model} makes images without a given class. "
            "Allowed: a generator that was trained with generator.conditional: true"
        )
    if name is not None and name not in served.classes:
        raise UsageError(f"--class {name}: {model} does not know this class. {allowed(name, served.classes)}")
    if name is None:
        labels = np.arange(count) % max(1, len(served.classes))
    else:
        labels = np.full(count, served.classes.index(name))
    return served.sample(labels, seed), served


def columns_of(count: int, served: ServedGenerator, name: str | None) -> int:
    """Return the number of columns of a grid. If the classes take turns, a column shows one class.

    Args:
        count: Number of images.
        served: The generator.
        name: The class of all images, or `None` if the classes take turns.
    """
    if name is None and 1 < len(served.classes) <= 20:
        return len(served.classes)
    return max(1, round(count**0.5))


def write_png(content: bytes, path: Path) -> None:
    """Write a picture to a file, completely or not at all. An existing file is replaced.

    Raises:
        UserError: The file can't be written.
    """
    try:
        write_output(path, content)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from error
