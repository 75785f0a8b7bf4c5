"""A parquet table of images as a dataset: columns `image` and `label`, and `split` where there is one.

An image is the bytes of an encoded file, a struct that holds them as `bytes`, or a list of numbers with its shape in
the column `shape`.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq

from kdmodels.data.arrays import channels_first, checked, class_codes, resize
from kdmodels.data.cache import cached
from kdmodels.data.dataset import Source, parts_of
from kdmodels.data.decoding import Decoded, Progress, read_decoded, skipped, write_arrays, write_decoded
from kdmodels.data.layout import SPLITS, split_name
from kdmodels.data_fields import Data
from kdmodels.errors import UserError

ROWS = 256  # that are held at once


def read_parquet(path: Path, data: Data, on_progress: Progress) -> Source:
    """The images of a table, by split and class; without the column `split` all are one pool.

    Raises:
        UserError: it can't be read, or its columns are others.
    """
    try:
        with pq.ParquetFile(path) as table:
            names = table.schema_arrow.names
            for column in ("image", "label"):
                if column not in names:
                    raise UserError(f"{path}: has no column {column!r}; it has: {', '.join(names)}")
            labels = table.read(["label"]).column(0).to_pandas().to_numpy()
            if not len(labels):
                raise UserError(f"{path}: has no row; allowed: at least one image")
            splits = table.read(["split"]).column(0).to_pylist() if "split" in names else ["train"] * len(labels)
            places = np.array([_split(path, name) for name in splits], dtype=object)
            decoded = _decoded(path, table, places == "train", data, on_progress)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: can't be read: {' '.join(str(error).split())}") from error
    left_out = skipped(decoded, path, skip=data.skip)
    readable = np.array([str(row) not in decoded.unreadable for row in range(len(labels))])
    classes, (codes,) = class_codes([labels[readable]], None, str(path))
    parts = parts_of(decoded.pixels, decoded.prints, places[readable], codes)
    if "train" not in parts:
        raise UserError(f"{path}: no row of the split train; it has: {', '.join(sorted(set(map(str, splits))))}")
    return Source(classes, parts, top=decoded.top, notes=decoded.notes, skipped=left_out)


def _split(path: Path, name: object) -> str:
    split = split_name(str(name))
    if split is None:
        allowed = ", ".join(folder for folders in SPLITS.values() for folder in folders)
        raise UserError(f"{path}: {name!r} in the column 'split' is no split; allowed: {allowed}")
    return split


def _decoded(path: Path, table: pq.ParquetFile, train: np.ndarray, data: Data, on_progress: Progress) -> Decoded:
    kind = table.schema_arrow.field("image").type
    about = path.stat()

    def produce(folder: Path) -> None:
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            _write_encoded(folder, table, train, data.size, on_progress)
        elif "shape" not in table.schema_arrow.names:
            raise UserError(f"{path}: its images are lists of numbers and it has no column 'shape'; allowed: [H, W, C]")
        else:
            try:
                write_arrays(folder, _numbers(table, data.size))
            except UserError as error:
                raise UserError(f"{path}: {error}") from error

    return read_decoded(cached([path, data.size], [about.st_size, about.st_mtime_ns, PIL.__version__], produce))


def _write_encoded(
    folder: Path, table: pq.ParquetFile, train: np.ndarray, size: Sequence[int] | None, on_progress: Progress
) -> None:
    """Decode the encoded images by way of one file that holds them all, since a table can't be read at a row."""
    ends = [0]
    with (folder / "encoded").open("w+b") as file:
        for batch in _batches(table, ["image"]):
            column = batch.column(0)
            for content in (column.field("bytes") if pa.types.is_struct(column.type) else column).to_pylist():
                if not isinstance(content, bytes | None):
                    raise UserError(f"the column 'image' holds {column.type}; allowed: bytes, or lists of numbers")
                ends.append(ends[-1] + file.write(content or b""))
        file.flush()
        rows = [str(row) for row in range(len(ends) - 1)]
        write_decoded(
            folder,
            rows,
            lambda row: os.pread(file.fileno(), ends[int(row) + 1] - ends[int(row)], ends[int(row)]),
            size=size,
            typical=[row for row, of_train in zip(rows, train, strict=True) if of_train],
            on_progress=on_progress,
        )
    (folder / "encoded").unlink()


def _batches(table: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from table.iter_batches(ROWS, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"a page of the table can't be read: {' '.join(str(error).split())}") from error


def _numbers(table: pq.ParquetFile, size: Sequence[int] | None) -> Iterator[np.ndarray]:
    for batch in _batches(table, ["image", "shape"]):
        try:
            images = np.stack(
                [np.array(image).reshape(shape) for image, shape in zip(*map(pa.Array.to_pylist, batch), strict=True)]
            )
        except (ValueError, TypeError) as error:
            raise UserError(f"its images do not have their shape, or not all the same: {error}") from error
        chunk = checked(channels_first(images, "image"), "image")
        yield chunk if size is None else resize(chunk, size)
