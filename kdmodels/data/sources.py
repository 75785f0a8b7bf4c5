"""Loading of datasets from scikit-learn, torchvision, the user's files, or the user's function."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL

from kdmodels.data import arrays, published
from kdmodels.data.cache import cached
from kdmodels.data.dataset import Dataset, assemble
from kdmodels.data.decoding import Decoded, Encoded, Progress, read_decoded, skipped, write_decoded
from kdmodels.data.files import Files, listed, open_files, require_regular
from kdmodels.data.images import SUFFIXES
from kdmodels.data.layout import read_layout
from kdmodels.data.made import made_images
from kdmodels.data.parquet import read_parquet
from kdmodels.data.parts import UNLABELLED, Part, Source, ordered, parts_of
from kdmodels.errors import UserError
from kdmodels.experiment.data import PATHS, TORCHVISION, UNLABELLED_PATHS, Data
from kdmodels.files.folders import find_path
from kdmodels.serving.generator_file import ServedGenerator


def load_dataset(
    data: Data,
    folder: Path | None = None,
    on_progress: Progress = lambda done, total: None,
    *,
    fold: int = 0,
    generator: ServedGenerator | None = None,
) -> Dataset:
    """Load the dataset of an experiment.

    Args:
        data: The `data` section of the experiment.
        folder: The data folder, which holds the files of published datasets. Relative paths are also looked up in this
            folder. If `None`, the folder in `$KD_DATA` is used. If `$KD_DATA` is not set either, published datasets are
            downloaded to the user's cache folder.
        on_progress: A function that is called while images are decoded. If the decoded images are already in the cache,
            the function is not called.
        fold: The number of the fold that is the validation split, counted from 0. Used only if `data.folds` is set.
        generator: The generator that `data.transfer.generator` names. `None` if the field is not set.

    Raises:
        UserError: Files are missing, are unreadable or can't be downloaded, or the examples can't be split.
    """
    if folder is None and os.environ.get("KD_DATA"):
        folder = Path(os.environ["KD_DATA"])
    with _field_named("data.source"):
        source = _read(data, folder, on_progress)
    unlabelled = None
    if data.transfer and data.transfer.made:
        unlabelled = made_images(source, data.transfer, generator)
    if data.transfer and data.transfer.path:
        path = find_path(data.transfer.path, folder, "data.transfer.unlabelled", UNLABELLED_PATHS)
        with _field_named("data.transfer.unlabelled"):
            source, unlabelled = _transfer(source, path, data, on_progress)
    return assemble(source, data, unlabelled, fold=fold)


@contextmanager
def _field_named(prefix: str) -> Iterator[None]:
    """Add the name of a field to the message of a UserError that is raised in the block.

    If the message already starts with a field of `data`, do not change the message.
    """
    try:
        yield
    except UserError as error:
        if str(error).startswith("data."):
            raise
        raise type(error)(f"{prefix}: {error}") from error


def _read(data: Data, folder: Path | None, on_progress: Progress) -> Source:
    if data.source == "digits":
        return arrays.resized(published.digits(), data.size)
    if data.source in TORCHVISION:
        return arrays.resized(published.read(data.source, folder), data.size)
    if ":" in data.source:
        return arrays.resized(arrays.call(data.source), data.size)
    path = find_path(data.source, folder, "data.source", PATHS)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".zip":
        return _image_files(path, data, on_progress)
    require_regular(path)
    if suffix == ".npz":
        return arrays.read_npz(path, data.size)
    if suffix == ".parquet":
        return read_parquet(path, data, on_progress)
    raise UserError(f"{path}: is not a known kind of file. Allowed: a folder, .zip, .npz, .parquet")


def _image_files(path: Path, data: Data, on_progress: Progress) -> Source:
    """Read a folder or a zip of images as a source. The path of an image determines its split and its class.

    Raises:
        UserError: The paths do not determine the classes, an image can't be read and `data.skip` is false, or no image
            of a class can be read.
    """
    with open_files(path) as files:
        images, notes = _images(files)
        with _field_named(f"data.source: {path}"):
            layout = read_layout(images, files.folders, data.validation if isinstance(data.validation, str) else None)
        splits = [split for split, paths in layout.paths.items() for _ in paths]
        names = [name for paths in layout.paths.values() for name in paths]
        labels = [label for labels in layout.labels.values() for label in labels]
        encoded = Encoded(names, files.read, data.size, typical=layout.paths["train"])
        decoded = _decoded(files, encoded, on_progress)
    left_out = skipped(decoded, path, skip=data.skip)
    classes = ordered(set(labels))
    codes = {name: code for code, name in enumerate(classes)}
    is_readable = np.array([name not in decoded.unreadable for name in names])
    unreadable = set(labels) - {label for label, readable in zip(labels, is_readable, strict=True) if readable}
    if unreadable:
        raise UserError(
            f"{path}: no image of {listed(sorted(unreadable))} can be read. "
            "Allowed: at least one readable image per class"
        )
    parts = parts_of(
        decoded.pixels,
        decoded.prints,
        np.array(splits, dtype=object)[is_readable],
        np.array([codes[label] for label in labels])[is_readable],
    )
    return Source(classes, parts, notes=[*notes, *layout.notes, *decoded.notes], skipped=left_out)


def _transfer(source: Source, path: Path, data: Data, on_progress: Progress) -> tuple[Source, Part]:
    """Read all images of a folder or a zip as unlabelled examples.

    Args:
        source: The source of the labelled examples, which sets the size and the channels of the images.
        path: The path of the folder or zip.
        data: The `data` section of the experiment.
        on_progress: A function that is called while images are decoded.

    Returns:
        A copy of the source with added notes and skipped images, and the unlabelled images.

    Raises:
        UserError: There is no image, or the pixels of the source do not range from 0 to 255. The same error is raised
            if an image can't be read and `data.skip` is false.
    """
    channels, height, width = source.parts["train"].pixels.shape[1:]
    if source.top != 255:
        raise UserError(
            f"{path}: image files hold values from 0 to 255, which don't fit {data.source} "
            f"with values from 0 to {source.top}. Allowed: a data.source with values from 0 to 255, or null"
        )
    with open_files(path) as files:
        images, notes = _images(files)
        if not images:
            raise UserError(f"{path}: contains no image. Allowed: {', '.join(SUFFIXES)}")
        encoded = Encoded(sorted(images), files.read, (height, width), channels)
        decoded = _decoded(files, encoded, on_progress)
    left_out = [*source.skipped, *skipped(decoded, path, skip=data.skip)]
    all_notes = [*source.notes, *(f"transfer: {note}" for note in [*notes, *decoded.notes])]
    count = len(decoded.pixels)
    part = Part(decoded.pixels, np.full(count, UNLABELLED), decoded.prints, np.arange(count))
    return replace(source, notes=all_notes, skipped=left_out), part


def _images(files: Files) -> tuple[list[str], list[str]]:
    """Return the names of the image files, and a list of notes. If there are other files, a note lists these files."""
    images = [name for name in files.stamps if name.lower().endswith(SUFFIXES)]
    others = sorted(files.stamps.keys() - set(images))
    return images, [f"{len(others)} files are not images and are left out: {listed(others)}"] if others else []


def _decoded(files: Files, images: Encoded, on_progress: Progress) -> Decoded:
    """Decode the images, or return the decoded images from the cache."""
    status = files.root.stat()
    manifest = [
        PIL.__version__,
        len(images.typical),
        [] if files.root.is_dir() else [status.st_size, status.st_mtime_ns],
        [[ascii(name), *files.stamps[name]] for name in images.names],
    ]
    place = [files.root, images.size, images.channels]
    return read_decoded(cached(place, manifest, lambda folder: write_decoded(folder, images, on_progress)))
