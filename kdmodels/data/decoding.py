"""Many encoded images as one memory-mapped array, decoded by all cores."""

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
from typing import Any, BinaryIO

import numpy as np

from kdmodels.data.files import listed, printable
from kdmodels.data.images import GREY, decode, measure
from kdmodels.errors import UserError

PIXELS, PRINTS, REPORT = "pixels.npy", "prints.npy", "report.json"
BYTES = np.dtype(np.uint8)
CHUNK_BYTES = 2**24  # of pixels that are held at once, a thread
CHUNK_IMAGES = 64
DIGEST_BYTES = 16
Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


@dataclass(frozen=True)
class Decoded:
    """What lies in the cache: pixels (N, C, H, W) mapped from there, fingerprints (N, 2), and what is to be said.

    `unreadable` has the reason for each image that is not among them.
    """

    pixels: np.ndarray
    prints: np.ndarray
    unreadable: dict[str, str]
    notes: list[str]

    @property
    def top(self) -> int:
        """The largest value that a pixel may have."""
        return 255 if self.pixels.dtype == BYTES else 1


def fingerprints(images: np.ndarray) -> np.ndarray:
    """128 bits of each image's content, (N, 2) uint64: equal for equal pixels alone."""
    return _joined(b"".join(_digest(image) for image in images))


def _digest(image: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(image).data, digest_size=DIGEST_BYTES).digest()


def _joined(digests: bytes | bytearray) -> np.ndarray:
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def write_decoded(
    folder: Path,
    names: Sequence[str],
    read: Callable[[str], bytes],
    *,
    size: Sequence[int] | None,
    channels: int | None = None,
    typical: Collection[str] = (),
    on_progress: Progress,
) -> None:
    """Decode images into `PIXELS` (N, C, H, W) uint8 and `PRINTS`; `REPORT` says which could not be read, and why.

    Args:
        size: height and width; None: the most common ones of the `typical` images.
        channels: None: 1 if every image is grey, else 3.

    Raises:
        UserError: none can be read, or the disk has no room for them.
    """
    unreadable: dict[str, str] = {}
    done, total = 0, 2 * len(names)

    def told(results: Iterator[list[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
        nonlocal done
        for result in results:
            for name, value in result:
                if isinstance(value, Exception):
                    unreadable[name] = str(value) or type(value).__name__
                else:
                    yield name, value
            done += len(result)
            on_progress(done, total)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = list(told(_spread(pool, lambda name: measure(read(name)), names, CHUNK_IMAGES)))
        if not measured:
            name, why = next(iter(unreadable.items()))
            raise UserError(f"none of {len(names)} images can be read; the first is {name}: {why}")
        of_most = set(typical)
        sizes = [value[:2] for name, value in measured if name in of_most] or [value[:2] for _, value in measured]
        height, width = size or Counter(sizes).most_common(1)[0][0]
        channels = channels or (1 if all(mode in GREY for _, (_, _, mode) in measured) else 3)
        shape = (channels, height, width)
        require_room(folder, len(measured) * channels * height * width, f"the images at {height}x{width}")
        readable = [name for name, _ in measured]
        done = total - len(readable)
        chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (channels * height * width)))
        digests = bytearray()
        with (folder / PIXELS).open("wb") as file:
            _write_header(file, len(readable), shape)
            for _, (image, own) in told(_spread(pool, lambda name: _decoded(read(name), shape), readable, chunk)):
                file.write(image)
                digests += own
            file.seek(0)
            _write_header(file, len(digests) // DIGEST_BYTES, shape)
    notes = _conversions([value for _, value in measured], shape)
    _write_rest(
        folder, digests, unreadable, [f"{len(unreadable)} images left out, unreadable", *notes] if unreadable else notes
    )


def _decoded(content: bytes, shape: tuple[int, int, int]) -> tuple[np.ndarray, bytes]:
    image = np.ascontiguousarray(decode(content, *shape))
    return image, _digest(image)


def _spread(
    pool: ThreadPoolExecutor, work: Callable[[str], Any], names: Sequence[str], chunk: int
) -> Iterator[list[tuple[str, Any]]]:
    """The work on each name, or the exception that it ends with, in order; few chunks are under way at a time."""

    def one(name: str) -> Any:
        try:
            return work(name)
        except Exception as error:  # a decoder of foreign bytes may raise anything; it is told at the end
            return error

    chunks = (names[begin : begin + chunk] for begin in range(0, len(names), chunk))
    while window := list(islice(chunks, 2 * (os.cpu_count() or 1))):
        yield from pool.map(lambda part: [(name, one(name)) for name in part], window)


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...], dtype: np.dtype = BYTES) -> None:
    """Padded by numpy so that another count takes the same room."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def write_arrays(folder: Path, chunks: Iterable[np.ndarray]) -> None:
    """Chunks (B, C, H, W), at least one, in the form of `write_decoded`.

    Raises:
        UserError: they differ in shape or type.
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
                raise UserError(f"images are {first}, and after {count} of them {kind}; allowed: all alike")
            file.write(np.ascontiguousarray(chunk).data)
            digests += b"".join(map(_digest, chunk))
        file.seek(0)
        _write_header(file, len(digests) // DIGEST_BYTES, chunk.shape[1:], chunk.dtype)
    _write_rest(folder, digests, {}, [])


def read_decoded(folder: Path) -> Decoded:
    """What `write_decoded` or `write_arrays` wrote; no pixel is read.

    Raises:
        UserError: it has been damaged since.
    """
    try:
        report = json.loads((folder / REPORT).read_text())
        return Decoded(read_array(folder / PIXELS, mapped=True), read_array(folder / PRINTS), **report)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: what was decoded there is damaged; delete that folder: {error}") from error


def read_array(file: Path, *, mapped: bool = False) -> np.ndarray:
    """An array on disk, never one of Python's objects, which would be unpickled.

    Raises:
        UserError: it can't be read, or holds objects.
    """
    try:
        array: np.ndarray = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("not an array")
        return array
    except (OSError, ValueError, EOFError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{file}: is damaged, or holds more than numbers; delete it: {told}") from error


def skipped(decoded: Decoded, path: Path, *, skip: bool) -> list[str]:
    """The images that could not be read, each with the reason.

    Raises:
        UserError: there are some, and `skip` is false.
    """
    told = [f"{printable(name)} ({printable(why)})" for name, why in decoded.unreadable.items()]
    if told and not skip:
        raise UserError(
            f"{path}: {len(told)} images can't be read: {listed(told)}; allowed: images that can, or data.skip: true"
        )
    return told


def _write_rest(folder: Path, digests: bytearray, unreadable: dict[str, str], notes: list[str]) -> None:
    np.save(folder / PRINTS, _joined(digests))
    (folder / REPORT).write_text(json.dumps({"unreadable": unreadable, "notes": notes}))


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise a UserError where the disk has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at {folder}; allowed: a smaller "
            "data.size, or another folder by $XDG_CACHE_HOME"
        )


def _conversions(measured: list[tuple[int, int, str]], shape: tuple[int, int, int]) -> list[str]:
    other = sum(value[:2] != shape[1:] for value in measured)
    notes = [f"{other} of {len(measured)} images resized to {shape[1]}x{shape[2]}"] if other else []
    modes = Counter(mode for _, _, mode in measured)
    if len(modes) > 1:
        found = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))
        notes.append(f"modes converted to {'grey' if shape[0] == 1 else 'RGB'}: {found}")
    return notes
