"""Datasets in a parquet table with the columns `image` and `label`. The column `split` is optional.

Each cell of the column `image` holds the bytes of an image file, a struct with these bytes in the field `bytes`, or a
list of pixel values. If the cells hold pixel values, the column `shape` holds the shape of each image.
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
from kdmodels.data.decoding import Decoded, Encoded, Progress, read_decoded, skipped, write_arrays, write_decoded
from kdmodels.data.layout import SPLITS, split_name
from kdmodels.data.parts import Source, parts_of
from kdmodels.errors import UserError
from kdmodels.experiment.data import Data

ROWS = 256  # number of table rows that are in memory at once


def read_parquet(path: Path, data: Data, on_progress: Progress) -> Source:
    """Read a parquet table as a source. If there is no column `split`, all images are training images.

    Args:
        path: The path of the table.
        data: The `data` section of the experiment.
        on_progress: A function that is called while images are decoded.

    Raises:
        UserError: The table can't be read, a column is missing, a value is not valid, or no row is in the training
            split. The same error is raised if an image can't be read and `data.skip` is false.
    """
    try:
        with pq.ParquetFile(path) as table:
            names = table.schema_arrow.names
            for column in ("image", "label"):
                if column not in names:
                    raise UserError(f"{path}: has no column {column!r}. Its columns: {', '.join(names)}")
            labels = table.read(["label"]).column(0).to_pandas().to_numpy()
            if not len(labels):
                raise UserError(f"{path}: has no row. Allowed: at least one image")
            splits = table.read(["split"]).column(0).to_pylist() if "split" in names else ["train"] * len(labels)
            split_names = np.array([_split(path, name) for name in splits], dtype=object)
            decoded = _decoded(path, table, split_names == "train", data, on_progress)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: can't be read: {' '.join(str(error).split())}") from error
    left_out = skipped(decoded, path, skip=data.skip)
    is_readable = np.array([str(row) not in decoded.unreadable for row in range(len(labels))])
    classes, (codes,) = class_codes([labels[is_readable]], None, str(path))
    parts = parts_of(decoded.pixels, decoded.prints, split_names[is_readable], codes)
    if "train" not in parts:
        raise UserError(
            f"{path}: has no row of the split train. Its splits: {', '.join(sorted(set(map(str, splits))))}"
        )
    return Source(classes, parts, top=decoded.top, notes=decoded.notes, skipped=left_out)


def _split(path: Path, name: object) -> str:
    split = split_name(str(name))
    if split is None:
        names = ", ".join(folder for folders in SPLITS.values() for folder in folders)
        raise UserError(f"{path}: the column 'split' holds {name!r}, which is not a split. Allowed: {names}")
    return split


def _decoded(path: Path, table: pq.ParquetFile, in_train: np.ndarray, data: Data, on_progress: Progress) -> Decoded:
    """Decode the images, or return the decoded images from the cache.

    Args:
        path: The path of the table.
        table: The table.
        in_train: Whether each row belongs to the training split, (N,) bool.
        data: The `data` section of the experiment.
        on_progress: A function that is called while images are decoded.
    """
    kind = table.schema_arrow.field("image").type
    status = path.stat()

    def produce(folder: Path) -> None:
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            _write_encoded(folder, table, in_train, data.size, on_progress)
        elif "shape" not in table.schema_arrow.names:
            raise UserError(
                f"{path}: its images are lists of numbers, but it has no column 'shape'. "
                "Allowed: a shape per image, as [H, W, C]"
            )
        else:
            try:
                write_arrays(folder, _number_arrays(table, data.size))
            except UserError as error:
                raise UserError(f"{path}: {error}") from error

    return read_decoded(cached([path, data.size], [status.st_size, status.st_mtime_ns, PIL.__version__], produce))


def _write_encoded(
    folder: Path, table: pq.ParquetFile, in_train: np.ndarray, size: Sequence[int] | None, on_progress: Progress
) -> None:
    """Decode the image files in the column `image`, and write the result to a folder as `write_decoded` does.

    Parquet can't read a single row of a table. The image files are therefore first copied to one temporary file.

    Args:
        folder: The folder for the result and the temporary file.
        table: The table.
        in_train: Whether each row belongs to the training split, (N,) bool.
        size: The height and width of the decoded images. If `None`, the most common size of the training images is
            used.
        on_progress: A function that is called while images are decoded.

    Raises:
        UserError: The column does not hold image files, or none of them can be read.
    """
    ends = [0]
    with (folder / "encoded").open("w+b") as file:
        for batch in _batches(table, ["image"]):
            column = batch.column(0)
            for content in (column.field("bytes") if pa.types.is_struct(column.type) else column).to_pylist():
                if not isinstance(content, bytes | None):
                    raise UserError(f"the column 'image' holds {column.type}. Allowed: bytes, or lists of numbers")
                ends.append(ends[-1] + file.write(content or b""))
        file.flush()
        rows = [str(row) for row in range(len(ends) - 1)]
        images = Encoded(
            rows,
            lambda row: os.pread(file.fileno(), ends[int(row) + 1] - ends[int(row)], ends[int(row)]),
            size,
            typical=[row for row, is_typical in zip(rows, in_train, strict=True) if is_typical],
        )
        write_decoded(folder, images, on_progress)
    (folder / "encoded").unlink()


def _batches(table: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from table.iter_batches(ROWS, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"a page of the table can't be read: {' '.join(str(error).split())}") from error


def _number_arrays(table: pq.ParquetFile, size: Sequence[int] | None) -> Iterator[np.ndarray]:
    for batch in _batches(table, ["image", "shape"]):
        try:
            images = np.stack(
                [np.array(image).reshape(shape) for image, shape in zip(*map(pa.Array.to_pylist, batch), strict=True)]
            )
        except (ValueError, TypeError) as error:
            raise UserError(
                f"images don't fit their shapes, or their shapes differ: {error}. Allowed: one shape for all"
            ) from error
        chunk = checked(channels_first(images, "image"), "image")
        yield chunk if size is None else resize(chunk, size)
