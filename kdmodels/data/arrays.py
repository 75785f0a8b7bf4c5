"""Datasets that consist of arrays in an .npz file, or in a mapping that the user's function returns.

The file or mapping holds the arrays `images` and `labels`. Optional arrays are `validation_images`,
`validation_labels`, `test_images`, `test_labels`, and `classes` with the class names.
"""

import importlib
import importlib.util
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.nn.functional import interpolate

from kdmodels.data.cache import cached
from kdmodels.data.decoding import fingerprints, read_array, read_decoded, require_room, write_arrays
from kdmodels.data.files import listed
from kdmodels.data.parts import Part, Source, ordered
from kdmodels.errors import UsageError, UserError, allowed
from kdmodels.experiment.user_code import require_allowed, require_allowed_definition

PREFIXES = {"train": "", "validation": "validation_", "test": "test_"}
NAMES = [f"{prefix}{kind}" for prefix in PREFIXES.values() for kind in ("images", "labels")] + ["classes"]
SHAPES = "(N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels"
CHUNK = 1024  # number of images that are converted at once


def part(pixels: np.ndarray, labels: np.ndarray) -> Part:
    """Return a `Part` of all images (N, C, H, W) and their labels (N,). Compute the images' fingerprints."""
    return Part(pixels, labels.astype(np.int64), fingerprints(pixels), np.arange(len(pixels)))


def resized(source: Source, size: Sequence[int] | None) -> Source:
    """Return a source whose images are resized with an antialiased bilinear filter.

    Args:
        source: The original source.
        size: The new height and width. If `None`, the original source is returned.
    """
    if size is None:
        return source
    parts = {
        name: part(np.concatenate([resize(chunk, size) for chunk in chunks(original.pixels)]), original.labels)
        for name, original in source.parts.items()
    }
    return replace(source, parts=parts)


def read_npz(path: Path, size: Sequence[int] | None) -> Source:
    """Read a source from an .npz file. The arrays are unpacked to the cache folder and memory-mapped.

    Args:
        path: The path of the file.
        size: The height and width to which all images are resized. If `None`, images are not resized.

    Raises:
        UserError: The file can't be read, or `from_mapping` does not accept its arrays.
    """
    status = path.stat()
    folder = cached([path, size], [status.st_size, status.st_mtime_ns], lambda folder: _unpack(path, folder, size))
    values = {file.stem: read_array(file, mapped=True) for file in folder.glob("*.npy")}
    images = {subfolder.name: read_decoded(subfolder) for subfolder in folder.iterdir() if subfolder.is_dir()}
    values |= {name: decoded.pixels for name, decoded in images.items()}
    return from_mapping(values, str(path), {name: decoded.prints for name, decoded in images.items()})


def _unpack(path: Path, folder: Path, size: Sequence[int] | None) -> None:
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: can't be read: no permission. Allowed: a file that this user may read")
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
                _unpack_images(array, f"{path}: {file.stem}", folder / file.stem, size)
                file.unlink()
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path}: can't be read: {error}. Allowed: an .npz file written by numpy.savez, without Python objects"
        ) from error


def _unpack_images(images: np.ndarray, where: str, folder: Path, size: Sequence[int] | None) -> None:
    if not len(np.atleast_1d(images)):
        raise UserError(f"{where} is empty. Allowed: at least one image")
    valid = (checked(chunk, where) for chunk in chunks(channels_first(images, where)))
    folder.mkdir()
    write_arrays(folder, (chunk if size is None else resize(chunk, size) for chunk in valid))


def call(word: str) -> Source:
    """Return the result of the user's function as a source. The function returns a mapping for `from_mapping`.

    Args:
        word: `module:function` or `path/to/file.py:function`. The module is on Python's path or in the current folder.

    Raises:
        UsageError: The function does not exist, or kdflow is not allowed to run the function.
        UserError: The function raises an error, or `from_mapping` does not accept the function's result.
    """
    place, _, name = word.rpartition(":")
    require_allowed("data.source", place)
    try:
        module = _module(place)
        function = getattr(module, name)
        require_allowed_definition("data.source", function, module)
        values = function()
        arrays = {str(key): np.asarray(value) for key, value in values.items()} if isinstance(values, Mapping) else None
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise an exception of any type
        kind = UsageError if isinstance(error, ImportError | AttributeError | FileNotFoundError) else UserError
        raise kind(f"data.source: {word}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if arrays is None:
        raise UserError(
            f"data.source: {word}: returned {type(values).__name__}. Allowed: a mapping with {listed(NAMES)}"
        )
    return from_mapping(arrays, word)


def _module(place: str) -> ModuleType:
    """Return the module that the user names.

    Args:
        place: The path of a `.py` file, or the dotted name of a module. A file is run. A module on Python's path is
            imported. For any other module, the module's file in the current folder is run.
    """
    file = Path(place if place.endswith(".py") else f"{place.replace('.', '/')}.py").expanduser()
    if not place.endswith(".py") and (importlib.util.find_spec(place.split(".")[0]) or not file.is_file()):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def from_mapping(
    values: Mapping[str, np.ndarray], where: str, prints: Mapping[str, np.ndarray] | None = None
) -> Source:
    """Return named arrays as a source.

    Args:
        values: Arrays whose names are in `NAMES`. Images have one of the shapes in `SHAPES`, and are integers from 0 to
            255 or floats in [0, 1]. Labels have the shape (N,), and are integers or text. If the array `classes`
            exists, labels are indices into `classes`.
        where: The name of the source in error messages.
        prints: The fingerprints (hashes) of the images, (N, 2) each, by the name of the array of images, for example
            `test_images`. If `None`, the fingerprints are computed.

    Raises:
        UserError: An array is missing, its name is not in `NAMES`, or its shape, type or range is not allowed.
    """
    _require_known(values, where)
    images, labels = {}, {}
    for split, prefix in PREFIXES.items():
        if split != "train" and not {f"{prefix}images", f"{prefix}labels"} & values.keys():
            continue
        for name in (f"{prefix}images", f"{prefix}labels"):
            if name not in values:
                raise UserError(f"{where}: {name} is missing. Its arrays: {listed(sorted(values)) or 'none'}")
        images[split] = _pixels(values[f"{prefix}images"], f"{where}: {prefix}images")
        labels[split] = values[f"{prefix}labels"]
        if labels[split].shape != (len(images[split]),) or not len(images[split]):
            raise UserError(
                f"{where}: {prefix}labels has the shape {labels[split].shape}, but {prefix}images has "
                f"{images[split].shape}. Allowed: one label per image, and at least one image"
            )
    kinds = {(pixels.dtype, pixels.shape[1:]) for pixels in images.values()}
    if len(kinds) > 1:
        names = ", ".join(f"{dtype} {shape}" for dtype, shape in sorted(kinds, key=str))
        raise UserError(f"{where}: the splits' images differ: {names}. Allowed: one type and one (C, H, W)")
    classes, codes = class_codes(list(labels.values()), values.get("classes"), where)
    parts = {}
    for (split, pixels), split_codes in zip(images.items(), codes, strict=True):
        split_prints = prints[f"{PREFIXES[split]}images"] if prints else fingerprints(pixels)
        parts[split] = Part(pixels, split_codes, split_prints, np.arange(len(pixels)))
    return Source(classes, parts, top=255 if images["train"].dtype == np.uint8 else 1)


def _require_known(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in NAMES:
            raise UserError(f"{where}: has the array {name!r}. {allowed(name, NAMES)}")


def channels_first(images: np.ndarray, where: str) -> np.ndarray:
    """Return images of any shape in `SHAPES` as a view of shape (N, C, H, W). No pixel is copied.

    Args:
        images: The images.
        where: The name of the images in the error message.

    Raises:
        UserError: The shape of the images is not in `SHAPES`.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    raise UserError(f"{where} has the shape {images.shape}. Allowed: {SHAPES}")


def checked(images: np.ndarray, where: str) -> np.ndarray:
    """Check the values of images. Return integers as uint8, and floats as float32.

    Integers must be from 0 to 255, and floats from 0 to 1. Images that are already uint8 or float32 are not copied.

    Args:
        images: The images.
        where: The name of the images in the error message.

    Raises:
        UserError: The images are neither integers nor floats, or a value is out of range.
    """
    is_integer = np.issubdtype(images.dtype, np.integer)
    if not is_integer and not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{where} has the type {images.dtype}. Allowed: integers or floats")
    top = 255 if is_integer else 1
    if images.dtype != np.uint8 and images.size and not (images.min() >= 0 and images.max() <= top):
        raise UserError(
            f"{where} has values from {images.min()} to {images.max()}. "
            "Allowed: integers from 0 to 255, or floats from 0 to 1"
        )
    return images.astype(np.uint8 if is_integer else np.float32, copy=False)


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    pixels = channels_first(images, where)
    if pixels.dtype == np.float32:  # the array may be mapped from disk, so it is checked in chunks
        for chunk in chunks(pixels):
            checked(chunk, where)
        return pixels
    return checked(pixels, where)


def class_codes(
    labels: Sequence[np.ndarray], names: np.ndarray | None, where: str
) -> tuple[list[str], list[np.ndarray]]:
    """Return the class names, and the labels of each split as indices into the class names.

    Args:
        labels: The labels of each split, (N,), as integers or text.
        names: The class names. If `None`, the distinct labels are the class names.
        where: The name of the source in error messages.

    Raises:
        UserError: The labels are neither integers nor text, their type differs between splits, or they are not valid
            indices into `names`.
    """
    are_integers = [array.dtype.kind in "iu" for array in labels]
    for array in labels:
        if array.dtype.kind not in "iuUT" and not all(isinstance(label, str) for label in array):
            raise UserError(f"{where}: labels have the type {array.dtype}. Allowed: integers or text")
    if any(are_integers) != all(are_integers):
        raise UserError(f"{where}: labels are integers in one split and text in another. Allowed: one type")
    values, positions = np.unique(np.concatenate(labels), return_inverse=True)
    if names is not None:
        if names.ndim != 1:
            raise UserError(f"{where}: classes has the shape {names.shape}. Allowed: a list of names")
        if not all(are_integers) or values[0] < 0 or values[-1] >= len(names):
            raise UserError(
                f"{where}: labels range from {values[0]} to {values[-1]}. Allowed: 0 to {len(names) - 1}, the indices "
                "of classes"
            )
        return [str(name) for name in names], [array.astype(np.int64) for array in labels]
    words = [str(value) for value in values]
    classes = words if all(are_integers) else ordered(set(words))
    bounds = np.cumsum([len(array) for array in labels])[:-1]
    codes = {name: code for code, name in enumerate(classes)}
    return classes, np.split(np.array([codes[word] for word in words])[positions], bounds)


def chunks(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Split an array (N, ...) into chunks of at most `CHUNK` images."""
    return (pixels[begin : begin + CHUNK] for begin in range(0, len(pixels), CHUNK))


def resize(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize images (N, C, H, W) to another height and width. The data type stays the same.

    For uint8 images, the result is the same on every CPU. Values are computed in float64 and then rounded. CPUs differ
    in their rounding errors, so a fraction slightly below one half is rounded up like one half.

    Args:
        pixels: The images.
        size: The new height and width.
    """
    is_bytes = pixels.dtype == np.uint8
    images = torch.from_numpy(pixels.astype(np.float64 if is_bytes else np.float32))
    values = interpolate(images, size=tuple(size), mode="bilinear", antialias=True, align_corners=False).numpy()
    return np.floor(values + (0.5 + 1e-6)).astype(np.uint8) if is_bytes else values
