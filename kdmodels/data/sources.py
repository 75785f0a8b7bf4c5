"""Where datasets come from: scikit-learn, torchvision, the user's files, the user's function."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL

from kdmodels.data import arrays, published
from kdmodels.data.cache import cached
from kdmodels.data.dataset import UNLABELLED, Dataset, Part, Source, assemble, ordered, parts_of
from kdmodels.data.decoding import Decoded, Progress, read_decoded, skipped, write_decoded
from kdmodels.data.files import Files, listed, open_files, require_regular
from kdmodels.data.images import SUFFIXES
from kdmodels.data.layout import read_layout
from kdmodels.data_fields import PATHS, TORCHVISION, Data
from kdmodels.errors import UserError
from kdmodels.folders import find_path


def load_dataset(
    data: Data, folder: Path | None = None, on_progress: Progress = lambda done, total: None, *, fold: int = 0
) -> Dataset:
    """The dataset that an experiment names.

    Args:
        fold: which of `data.folds` parts is the validation split, counted from 0.
        folder: where the files of a source that has files lie, and what relative paths may be below; None means
            `$KD_DATA`, and where that is not set either, published sets are downloaded to the user's cache folder.
        on_progress: told how much of the images is decoded, and of how much; never where they have been decoded before.

    Raises:
        UserError: the files are missing or unreadable, or can't be downloaded; or the examples can't be split.
    """
    if folder is None and os.environ.get("KD_DATA"):
        folder = Path(os.environ["KD_DATA"])
    source = _read(data, folder, on_progress)
    transfer = None
    if data.transfer:
        path = find_path(data.transfer.unlabelled, folder, "data.transfer.unlabelled", PATHS)
        source, transfer = _transfer(source, path, data, on_progress)
    return assemble(source, data, transfer, fold=fold)


def _read(data: Data, folder: Path | None, on_progress: Progress) -> Source:
    if data.source == "digits":
        return arrays.resized(published.digits(), data.size)
    if data.source in TORCHVISION:
        return arrays.resized(published.read(data.source, folder), data.size)
    if ":" in data.source:
        return arrays.resized(arrays.call(data.source), data.size)
    path = find_path(data.source, folder, "data.source", PATHS)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return _image_files(path, data, on_progress)
    require_regular(path)
    if path.suffix.lower() == ".npz":
        return arrays.read_npz(path, data.size)
    if path.suffix.lower() == ".parquet":
        from kdmodels.data.parquet import read_parquet  # pyarrow takes half a second to import

        return read_parquet(path, data, on_progress)
    raise UserError(f"data.source: {path}: is a file of no known kind; allowed: a folder, .zip, .npz, .parquet")


def _image_files(path: Path, data: Data, on_progress: Progress) -> Source:
    """The images of a folder or a zip, by split and class."""
    with open_files(path) as files:
        images, notes = _images(files)
        try:
            layout = read_layout(images, files.folders, data.validation if isinstance(data.validation, str) else None)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        splits = [split for split, paths in layout.paths.items() for _ in paths]
        names = [name for paths in layout.paths.values() for name in paths]
        labels = [label for labels in layout.labels.values() for label in labels]
        decoded = _decoded(files, names, size=data.size, typical=layout.paths["train"], on_progress=on_progress)
    left_out = skipped(decoded, path, skip=data.skip)
    classes = ordered(set(labels))
    codes = {name: code for code, name in enumerate(classes)}
    readable = np.array([name not in decoded.unreadable for name in names])
    parts = parts_of(
        decoded.pixels,
        decoded.prints,
        np.array(splits, dtype=object)[readable],
        np.array([codes[label] for label in labels])[readable],
    )
    gone = set(labels) - {label for label, read in zip(labels, readable, strict=True) if read}
    if gone:
        raise UserError(f"{path}: no image of {listed(sorted(gone))} can be read")
    return Source(classes, parts, notes=[*notes, *layout.notes, *decoded.notes], skipped=left_out)


def _transfer(source: Source, path: Path, data: Data, on_progress: Progress) -> tuple[Source, Part]:
    """Every image of a folder or a zip as an example without a label; the source has what is to be said of them."""
    channels, height, width = source.parts["train"].pixels.shape[1:]
    if source.top != 255:
        raise UserError(
            f"data.transfer.unlabelled: image files do not fit {data.source}, whose values end at {source.top}"
        )
    with open_files(path) as files:
        images, notes = _images(files)
        if not images:
            raise UserError(f"data.transfer.unlabelled: {path}: no image; allowed: {', '.join(SUFFIXES)}")
        decoded = _decoded(files, sorted(images), size=(height, width), channels=channels, on_progress=on_progress)
    left_out = [*source.skipped, *skipped(decoded, path, skip=data.skip)]
    told = [*source.notes, *(f"transfer: {note}" for note in [*notes, *decoded.notes])]
    count = len(decoded.pixels)
    part = Part(decoded.pixels, np.full(count, UNLABELLED), decoded.prints, np.arange(count))
    return replace(source, notes=told, skipped=left_out), part


def _images(files: Files) -> tuple[list[str], list[str]]:
    images = [name for name in files.stamps if name.lower().endswith(SUFFIXES)]
    others = sorted(files.stamps.keys() - set(images))
    return images, [f"{len(others)} files are no images and left out: {listed(others)}"] if others else []


def _decoded(
    files: Files,
    names: list[str],
    *,
    size: Sequence[int] | None,
    typical: Collection[str] = (),
    channels: int | None = None,
    on_progress: Progress,
) -> Decoded:
    about = files.root.stat()
    manifest = [
        PIL.__version__,
        len(typical),
        [] if files.root.is_dir() else [about.st_size, about.st_mtime_ns],
        [[ascii(name), *files.stamps[name]] for name in names],
    ]
    folder = cached(
        [files.root, size, channels],
        manifest,
        lambda folder: write_decoded(
            folder, names, files.read, size=size, channels=channels, typical=typical, on_progress=on_progress
        ),
    )
    return read_decoded(folder)
