"""Arrays as datasets: .npz, and what the user's own function returns.

Both name the same things: `images` and `labels`, and where they have them `validation_images`, `validation_labels`,
`test_images`, `test_labels`; `classes` names the classes.
"""

import importlib
import importlib.util
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from kdmodels.data.cache import cached
from kdmodels.data.dataset import Part, Source, ordered
from kdmodels.data.decoding import fingerprints, read_array, read_decoded, require_room, write_arrays
from kdmodels.data.files import listed
from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.own_code import require_allowed, require_own

PREFIXES = {"train": "", "validation": "validation_", "test": "test_"}
NAMES = [f"{prefix}{what}" for prefix in PREFIXES.values() for what in ("images", "labels")] + ["classes"]
SHAPES = "(N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels"
CHUNK = 1024  # images that are converted at once


def part(pixels: np.ndarray, labels: np.ndarray) -> Part:
    """Arrays (N, C, H, W) and (N,) as a part of a source."""
    return Part(pixels, labels.astype(np.int64), fingerprints(pixels), np.arange(len(pixels)))


def resized(source: Source, size: Sequence[int] | None) -> Source:
    """The same source with images of another height and width, by an antialiased bilinear filter."""
    if size is None:
        return source
    parts = {
        name: part(np.concatenate([resize(chunk, size) for chunk in chunks(own.pixels)]), own.labels)
        for name, own in source.parts.items()
    }
    return replace(source, parts=parts)


def read_npz(path: Path, size: Sequence[int] | None) -> Source:
    """The arrays of an .npz file, unpacked to the cache and mapped from there.

    Raises:
        UserError: it can't be read, or holds other things than `NAMES` say.
    """
    about = path.stat()
    folder = cached([path, size], [about.st_size, about.st_mtime_ns], lambda folder: _unpack(path, folder, size))
    values = {file.stem: read_array(file, mapped=True) for file in folder.glob("*.npy")}
    images = {part.name: read_decoded(part) for part in folder.iterdir() if part.is_dir()}
    values |= {name: decoded.pixels for name, decoded in images.items()}
    return from_mapping(values, str(path), {name: decoded.prints for name, decoded in images.items()})


def _unpack(path: Path, folder: Path, size: Sequence[int] | None) -> None:
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: can't be read: no permission; allowed: a file that this user may read")
    try:
        with zipfile.ZipFile(path) as archive:
            require_room(folder, 2 * sum(info.file_size for info in archive.infolist()), str(path))
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                _require_known([name], str(path))
                with archive.open(info) as packed, (folder / f"{name}.npy").open("wb") as copy:
                    shutil.copyfileobj(packed, copy)
        for file in sorted(folder.iterdir()):
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if file.stem.endswith("images"):
                where = f"{path}: {file.stem}"
                if not len(np.atleast_1d(array)):
                    raise UserError(f"{where} is empty; allowed: at least one image")
                every = (checked(chunk, where) for chunk in chunks(channels_first(array, where)))
                (folder / file.stem).mkdir()
                write_arrays(folder / file.stem, (chunk if size is None else resize(chunk, size) for chunk in every))
                file.unlink()
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: can't be read: {error}; allowed: what numpy.savez writes, without objects") from error


def call(word: str) -> Source:
    """What the user's function returns: a mapping with `NAMES`.

    Args:
        word: `module:function`, the module on Python's path or in the current folder; or `path/to/file.py:function`.

    Raises:
        UsageError: there is no such function, or it may not run.
        UserError: it raises, or returns something else.
    """
    place, _, name = word.rpartition(":")
    require_allowed("data.source", place)
    try:
        home = _module(place)
        function = getattr(home, name)
        require_own("data.source", function, home)
        values = function()
        arrays = {str(key): np.asarray(value) for key, value in values.items()} if isinstance(values, Mapping) else None
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # of the user's code, which may raise anything
        kind = UsageError if isinstance(error, ImportError | AttributeError | FileNotFoundError) else UserError
        raise kind(f"data.source: {word}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if arrays is None:
        raise UserError(
            f"data.source: {word}: returned {type(values).__name__}; allowed: a mapping with {listed(NAMES)}"
        )
    return from_mapping(arrays, word)


def _module(place: str) -> Any:
    beside = Path(place if place.endswith(".py") else f"{place.replace('.', '/')}.py").expanduser()
    if not place.endswith(".py") and (importlib.util.find_spec(place.split(".")[0]) or not beside.is_file()):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(beside.stem, beside)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def from_mapping(
    values: Mapping[str, np.ndarray], where: str, prints: Mapping[str, np.ndarray] | None = None
) -> Source:
    """Named arrays as a source.

    Args:
        values: see `NAMES`. Images as `SHAPES`, whole numbers from 0 to 255 or floats in [0, 1]; labels (N,), whole
            numbers or text; with `classes` whole numbers from 0.
        where: what they are of, for messages.
        prints: the images' fingerprints by name, where they are known.

    Raises:
        UserError: something is missing, or of another shape or range.
    """
    _require_known(values, where)
    images, labels = {}, {}
    for split, prefix in PREFIXES.items():
        if split != "train" and not {f"{prefix}images", f"{prefix}labels"} & values.keys():
            continue
        for name in (f"{prefix}images", f"{prefix}labels"):
            if name not in values:
                raise UserError(f"{where}: {name} is missing; it holds: {listed(sorted(values)) or 'nothing'}")
        images[split] = _pixels(values[f"{prefix}images"], f"{where}: {prefix}images")
        labels[split] = values[f"{prefix}labels"]
        if labels[split].shape != (len(images[split]),) or not len(images[split]):
            raise UserError(
                f"{where}: {prefix}labels has the shape {labels[split].shape} and {prefix}images "
                f"{images[split].shape}; allowed: a label for each image, and at least one"
            )
    kinds = {(own.dtype, own.shape[1:]) for own in images.values()}
    if len(kinds) > 1:
        told = ", ".join(f"{dtype} {shape}" for dtype, shape in sorted(kinds, key=str))
        raise UserError(f"{where}: the splits' images differ: {told}; allowed: one type and one (C, H, W)")
    classes, codes = class_codes(list(labels.values()), values.get("classes"), where)
    parts = {}
    for (split, own), places in zip(images.items(), codes, strict=True):
        known = prints[f"{PREFIXES[split]}images"] if prints else fingerprints(own)
        parts[split] = Part(own, places, known, np.arange(len(own)))
    return Source(classes, parts, top=255 if images["train"].dtype == np.uint8 else 1)


def _require_known(names: Mapping[str, Any] | list[str], where: str) -> None:
    for name in names:
        if name not in NAMES:
            raise UserError(f"{where}: holds {name!r}; {allowed(name, NAMES)}")


def channels_first(images: np.ndarray, where: str) -> np.ndarray:
    """A view (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise UserError(f"{where} has the shape {images.shape}; allowed: {SHAPES}")


def checked(images: np.ndarray, where: str) -> np.ndarray:
    """The same values as uint8 or float32; nothing is copied that is so already."""
    whole = np.issubdtype(images.dtype, np.integer)
    if not whole and not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{where} is of type {images.dtype}; allowed: whole numbers or floats")
    top = 255 if whole else 1
    if images.dtype != np.uint8 and images.size and not (images.min() >= 0 and images.max() <= top):
        raise UserError(
            f"{where} goes from {images.min()} to {images.max()}; allowed: 0 to 255 as whole numbers, 0 to 1 as floats"
        )
    return images.astype(np.uint8 if whole else np.float32, copy=False)


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    pixels = channels_first(images, where)
    if pixels.dtype == np.float32:  # it may be mapped from disk
        for chunk in chunks(pixels):
            checked(chunk, where)
        return pixels
    return checked(pixels, where)


def class_codes(
    labels: Sequence[np.ndarray], names: np.ndarray | None, where: str
) -> tuple[list[str], list[np.ndarray]]:
    """The classes' names, and labels as their places among them.

    Args:
        labels: (N,) of each split, whole numbers or text; with `names`, the classes', whole numbers from 0.

    Raises:
        UserError: they are something else.
    """
    whole = [own.dtype.kind in "iu" for own in labels]
    for own in labels:
        if own.dtype.kind not in "iuUT" and not all(isinstance(label, str) for label in own):
            raise UserError(f"{where}: labels are of type {own.dtype}; allowed: whole numbers or text")
    if any(whole) != all(whole):
        raise UserError(f"{where}: labels are whole numbers in one split and text in another; allowed: one of them")
    values, places = np.unique(np.concatenate(labels), return_inverse=True)
    if names is not None:
        if names.ndim != 1:
            raise UserError(f"{where}: classes has the shape {names.shape}; allowed: a list of names")
        if not all(whole) or values[0] < 0 or values[-1] >= len(names):
            raise UserError(
                f"{where}: labels go from {values[0]} to {values[-1]}; allowed: 0 to {len(names) - 1}, by classes"
            )
        return [str(name) for name in names], [own.astype(np.int64) for own in labels]
    found = [str(value) for value in values]
    classes = found if all(whole) else ordered(set(found))
    bounds = np.cumsum([len(own) for own in labels])[:-1]
    codes = {name: code for code, name in enumerate(classes)}
    return classes, np.split(np.array([codes[name] for name in found])[places], bounds)


def chunks(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """The same (N, ...), some images at a time."""
    return (pixels[begin : begin + CHUNK] for begin in range(0, len(pixels), CHUNK))


def resize(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize (N, C, H, W) to another height and width, in the same type.

    Whole numbers are the same on every CPU: computed in float64, and halves rounded up, even if just missed.
    """
    whole = pixels.dtype == np.uint8
    images = torch.from_numpy(pixels.astype(np.float64 if whole else np.float32))
    values = interpolate(images, size=tuple(size), mode="bilinear", antialias=True, align_corners=False).numpy()
    return np.floor(values + (0.5 + 1e-6)).astype(np.uint8) if whole else values
