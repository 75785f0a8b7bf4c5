"""Many encoded images as one memory-mapped array, decoded by all cores."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kdmodels.data.images import GREY, decode, measure
from kdmodels.errors import UserError

PIXELS, PRINTS, REPORT = "pixels.npy", "prints.npy", "report.json"
CHUNK_BYTES = 2**24  # of pixels that are held at once, a thread
CHUNK_IMAGES = 256
Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


def fingerprint(images: np.ndarray) -> np.ndarray:
    """128 bits of each image's content, (N, 2) uint64: equal for equal pixels alone."""
    return _joined([_digest(image) for image in np.ascontiguousarray(images)])


def _digest(image: np.ndarray) -> bytes:
    return blake2b(image, digest_size=16).digest()


def _joined(digests: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def write_decoded(
    folder: Path,
    names: Sequence[str],
    read: Callable[[str], bytes],
    *,
    size: Sequence[int] | None,
    channels: int | None = None,
    typical: int,
    on_progress: Progress,
) -> None:
    """Decode images into `PIXELS` (N, C, H, W) uint8 and `PRINTS`; `REPORT` says which could not be read, and why.

    Args:
        size: height and width; None: the most common ones of the first `typical` images.
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
        first = set(names[:typical])
        sizes = [value[:2] for name, value in measured if name in first] or [value[:2] for _, value in measured]
        height, width = size or Counter(sizes).most_common(1)[0][0]
        channels = channels or (1 if all(mode in GREY for _, (_, _, mode) in measured) else 3)
        shape = (channels, height, width)
        _require_room(folder, len(measured) * channels * height * width, shape)
        readable = [name for name, _ in measured]
        done = total - len(readable)
        chunk = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (channels * height * width)))
        digests: list[bytes] = []
        with (folder / PIXELS).open("wb") as file:
            _write_header(file, len(readable), shape)
            for _, (image, own) in told(_spread(pool, lambda name: _decoded(read(name), shape), readable, chunk)):
                file.write(image)
                digests.append(own)
            file.seek(0)
            _write_header(file, len(digests), shape)  # padded by numpy so that another count takes the same room
    np.save(folder / PRINTS, _joined(digests))
    modes = Counter(mode for _, (_, _, mode) in measured)
    report = {"unreadable": unreadable, "notes": _conversions(measured, shape, modes)}
    (folder / REPORT).write_text(json.dumps(report))


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


def _write_header(file: BinaryIO, count: int, shape: tuple[int, int, int]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})


def _require_room(folder: Path, needed: int, shape: tuple[int, int, int]) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"decoded to {shape[1]}x{shape[2]} the images need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f}; "
            "allowed: a smaller data.size, or another folder by $XDG_CACHE_HOME"
        )


def _conversions(measured: list[tuple[str, tuple[int, int, str]]], shape: tuple[int, int, int], modes: Any) -> list[str]:
    other = sum(value[:2] != shape[1:] for _, value in measured)
    notes = [f"{other} of {len(measured)} images resized to {shape[1]}x{shape[2]}"] if other else []
    if len(modes) > 1:
        found = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))
        notes.append(f"modes converted to {'grey' if shape[0] == 1 else 'RGB'}: {found}")
    return notes


def read_report(folder: Path) -> dict[str, Any]:
    """What `write_decoded` had to say: `unreadable`, the reason by name, and `notes`."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_text())
    return report
