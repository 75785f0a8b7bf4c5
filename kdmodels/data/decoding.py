"""Decoding of many images into one memory-mapped array, on all CPU cores."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import numpy as np

from kdmodels.data.files import listed, printable
from kdmodels.data.images import GREY, decode, measure
from kdmodels.errors import UserError

PIXELS, PRINTS, REPORT = "pixels.npy", "prints.npy", "report.json"
BYTES = np.dtype(np.uint8)
CHUNK_BYTES = 2**24  # largest number of bytes of pixels that one thread holds at once
CHUNK_IMAGES = 64
DIGEST_BYTES = 16
T = TypeVar("T")
Progress = Callable[[int, int], None]
"""A function that is called with the amount of finished work and the total amount of work."""


@dataclass(frozen=True)
class Encoded:
    """A set of encoded images, and the shape that the decoded images will have.

    Args:
        names: The names of the images, in the order in which the decoded images are stored.
        read: A function that returns the bytes of an image, given the image's name. Several threads call this function.
        size: The height and width of the decoded images. If `None`, the most common size of the `typical` images is
            used.
        channels: The number of channels of the decoded images, 1 or 3. If `None`, the number is 1 if every image is
            grey, and 3 otherwise.
        typical: The names of the images whose most common size is used if `size` is `None`. If empty, all images are
            used.
    """

    names: Sequence[str]
    read: Callable[[str], bytes]
    size: Sequence[int] | None
    channels: int | None = None
    typical: Collection[str] = ()


@dataclass(frozen=True)
class Decoded:
    """The decoded images that are stored in a folder.

    Args:
        pixels: The pixels of the images, (N, C, H, W), memory-mapped.
        prints: The fingerprints (hashes) of the images, (N, 2) uint64.
        unreadable: The reasons why images could not be read, by the name of the image. `pixels` does not hold these
            images.
        notes: Facts about the images that the user should know.
    """

    pixels: np.ndarray
    prints: np.ndarray
    unreadable: dict[str, str]
    notes: list[str]

    @property
    def top(self) -> int:
        """The largest possible value of a pixel."""
        return 255 if self.pixels.dtype == BYTES else 1


@dataclass(frozen=True)
class Result(Generic[T]):
    """The result for one image: the computed value, or the error that was raised."""

    name: str
    value: T | None = None
    error: Exception | None = None


def fingerprints(images: np.ndarray) -> np.ndarray:
    """Return 128-bit fingerprints (hashes) of images, (N, 2) uint64.

    The fingerprints of two images are equal if and only if the pixels are equal.
    """
    return _joined(b"".join(_digest(image) for image in images))


def _digest(image: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST_BYTES).digest()


def _joined(digests: bytes | bytearray) -> np.ndarray:
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


class _Collector:
    """Collector of results, which separates the values of readable images from the errors of unreadable images.

    Attributes:
        done: The number of results so far, including errors.
        total: The number of results when all work is finished.
        on_progress: A function that is called with `done` and `total` after every chunk of results.
        unreadable: The error message of each unreadable image, by the name of the image.
    """

    def __init__(self, total: int, on_progress: Progress) -> None:
        self.done, self.total, self.on_progress = 0, total, on_progress
        self.unreadable: dict[str, str] = {}

    def values(self, chunks: Iterable[list[Result[T]]]) -> Iterator[tuple[str, T]]:
        """Yield the name and the value of each readable image."""
        for chunk in chunks:
            for result in chunk:
                if result.error is not None:
                    self.unreadable[result.name] = str(result.error) or type(result.error).__name__
                elif result.value is not None:
                    yield result.name, result.value
            self.done += len(chunk)
            self.on_progress(self.done, self.total)


def write_decoded(folder: Path, images: Encoded, on_progress: Progress) -> None:
    """Decode images, and write the result to three files in a folder.

    `PIXELS` holds the pixels, (N, C, H, W) uint8. `PRINTS` holds the fingerprints. `REPORT` holds the notes, and the
    reason why each unreadable image could not be read. Each image is read twice: first for its size and mode, and then
    for its pixels.

    Args:
        folder: An existing folder.
        images: The encoded images.
        on_progress: A function that is called repeatedly with the amount of finished work and the total amount.

    Raises:
        UserError: No image can be read, or the disk has no room for the pixels.
    """
    collector = _Collector(2 * len(images.names), on_progress)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = _spread(pool, lambda name: measure(images.read(name)), images.names, CHUNK_IMAGES)
        measured = list(collector.values(sizes))
        if not measured:
            name, reason = next(iter(collector.unreadable.items()))
            raise UserError(f"none of {len(images.names)} images can be read; the first is {name}: {reason}")
        shape = channels, height, width = _shape(images, measured)
        require_room(folder, len(measured) * channels * height * width, f"the images at {height}x{width}")
        readable = [name for name, _ in measured]
        collector.done = collector.total - len(readable)
        chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (channels * height * width)))
        decoded = _spread(pool, lambda name: _decoded(images.read(name), shape), readable, chunk)
        digests = bytearray()
        with (folder / PIXELS).open("wb") as file:
            _write_header(file, len(readable), shape)
            for _, (image, digest) in collector.values(decoded):
                file.write(image.data)
                digests += digest
            file.seek(0)
            _write_header(file, len(digests) // DIGEST_BYTES, shape)
    notes = _conversions([value for _, value in measured], shape)
    unreadable = collector.unreadable
    _write_rest(folder, digests, unreadable, [*_left_out(unreadable), *notes])


def _shape(images: Encoded, measured: list[tuple[str, tuple[int, int, str]]]) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the decoded images.

    Args:
        images: The encoded images.
        measured: The name, height, width and mode of each readable image.
    """
    typical = set(images.typical)
    sizes = [value[:2] for name, value in measured if name in typical] or [value[:2] for _, value in measured]
    height, width = images.size or Counter(sizes).most_common(1)[0][0]
    channels = images.channels or (1 if all(mode in GREY for _, (_, _, mode) in measured) else 3)
    return channels, height, width


def _decoded(content: bytes, shape: tuple[int, int, int]) -> tuple[np.ndarray, bytes]:
    image = np.ascontiguousarray(decode(content, *shape))
    return image, _digest(image)


def _spread(
    pool: ThreadPoolExecutor, work: Callable[[str], T], names: Sequence[str], chunk: int
) -> Iterator[list[Result[T]]]:
    """Call `work` for each name in several threads, and yield the results in the order of `names`.

    The results are yielded in lists of `chunk` results. The last list may be shorter. Only a few lists are in memory at
    a time. An error in `work` becomes part of the result and is not raised.
    """

    def attempt(name: str) -> Result[T]:
        try:
            return Result(name, work(name))
        except Exception as error:  # a decoder can raise any exception; all errors are reported at the end
            return Result(name, error=error)

    chunks = (names[begin : begin + chunk] for begin in range(0, len(names), chunk))
    while window := list(islice(chunks, 2 * (os.cpu_count() or 1))):
        yield from pool.map(lambda part: [attempt(name) for name in part], window)


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...], dtype: np.dtype = BYTES) -> None:
    """Write the header of an .npy file for `count` images of a shape and type.

    NumPy pads all headers to the same length. A header with the final number of images can therefore overwrite this
    header later.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def write_arrays(folder: Path, chunks: Iterable[np.ndarray]) -> None:
    """Write one or more chunks of images (B, C, H, W) to a folder, as the same three files as `write_decoded`.

    Raises:
        UserError: The chunks differ in shape or type.
    """
    digests = bytearray()
    with (folder / PIXELS).open("wb") as file:
        for chunk in chunks:
            kind = f"{chunk.dtype} {chunk.shape[1:]}"
            if not digests:
                first = kind
                _write_header(file, 0, chunk.shape[1:], chunk.dtype)
            if kind != first:
                count = len(digests) // DIGEST_BYTES
                raise UserError(f"the first {count} images are {first}, got {kind}. Allowed: one type and one shape")
            file.write(np.ascontiguousarray(chunk).data)
            digests += b"".join(map(_digest, chunk))
        file.seek(0)
        _write_header(file, len(digests) // DIGEST_BYTES, chunk.shape[1:], chunk.dtype)
    _write_rest(folder, digests, {}, [])


def _write_rest(folder: Path, digests: bytearray, unreadable: dict[str, str], notes: list[str]) -> None:
    np.save(folder / PRINTS, _joined(digests))
    (folder / REPORT).write_text(json.dumps({"unreadable": unreadable, "notes": notes}))


def read_decoded(folder: Path) -> Decoded:
    """Return the decoded images that are stored in a folder. Pixels are memory-mapped and not read.

    Raises:
        UserError: A file is missing or damaged.
    """
    try:
        report = json.loads((folder / REPORT).read_text())
        return Decoded(read_array(folder / PIXELS, mapped=True), read_array(folder / PRINTS), **report)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: the decoded images here are damaged: {error}. Delete this folder") from error


def read_array(file: Path, *, mapped: bool = False) -> np.ndarray:
    """Read an array from disk. Arrays of Python objects are refused, because loading them can run any code.

    Args:
        file: The .npy file.
        mapped: Whether to memory-map the array. If false, the whole array is read into memory.

    Raises:
        UserError: The file can't be read, or it holds Python objects.
    """
    try:
        array: np.ndarray = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("not an array")
        return array
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: is damaged or holds Python objects: {reason}. Delete the file") from error


def skipped(decoded: Decoded, path: Path, *, skip: bool) -> list[str]:
    """Return the name of each image that could not be read, followed by the reason.

    Args:
        decoded: The decoded images.
        path: The path of the source, for the error message.
        skip: Whether unreadable images are left out. If false, they are an error.

    Raises:
        UserError: An image could not be read, and `skip` is false.
    """
    images = [f"{printable(name)} ({printable(reason)})" for name, reason in decoded.unreadable.items()]
    if images and not skip:
        raise UserError(
            f"{path}: {len(images)} images can't be read: {listed(images)}. "
            "Allowed: readable images, or data.skip: true"
        )
    return images


def require_room(folder: Path, needed: int, content: str) -> None:
    """Raise a UserError if the disk of a folder has too little free space.

    Args:
        folder: The folder.
        needed: The number of bytes that are needed.
        content: A description of what will be written to the folder, for the error message.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{content} need {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free at {folder}. Allowed: a "
            "smaller data.size, or another cache folder in $XDG_CACHE_HOME"
        )


def _left_out(unreadable: dict[str, str]) -> list[str]:
    return [f"{len(unreadable)} unreadable images are left out"] if unreadable else []


def _conversions(measured: list[tuple[int, int, str]], shape: tuple[int, int, int]) -> list[str]:
    """Return notes on the number of images that are resized, and on the modes that are converted.

    Args:
        measured: The original height, width and Pillow mode of each readable image.
        shape: The shape (C, H, W) of the decoded images.
    """
    others = sum(value[:2] != shape[1:] for value in measured)
    notes = [f"{others} of {len(measured)} images resized to {shape[1]}x{shape[2]}"] if others else []
    modes = Counter(mode for _, _, mode in measured)
    if len(modes) > 1:
        counts = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))
        notes.append(f"modes converted to {'grey' if shape[0] == 1 else 'RGB'}: {counts}")
    return notes
