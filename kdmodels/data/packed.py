"""The part of a dataset that training needs, in a form that can be stored and sent to other machines.

The form has two parts: a small table, and the pixels. The table lists the images of the training split, the validation
split and the unlabelled images. The test split is left out, so a machine that trains students never holds it.

The table holds the fingerprint of every image. A machine checks the table with the digest of the dataset, and
the pixels with the table, so it has to trust only the digest. The files hold data only, and reading them runs no code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kdmodels.data.dataset import Dataset, Form
from kdmodels.data.decoding import fingerprints
from kdmodels.data.parts import UNLABELLED, Part
from kdmodels.data.split import Split
from kdmodels.errors import UserError

POOL_DIGITS = 32  # number of digits of a pool's name
FACTS = "facts"  # metadata key of the table
READ = 1024  # number of images whose fingerprints are computed at once


class Facts(BaseModel):
    """The part of a table that is not an array.

    Attributes:
        source: The name of the source in the experiment file.
        dtype: The type of a pixel.
        chunk: The number of images in one file of pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    top: int
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    classes: list[str]
    mean: list[float]
    std: list[float]
    dtype: Literal["uint8", "float32"]
    chunk: PositiveInt

    @property
    def form(self) -> Form:
        """The properties of the dataset that its digests cover."""
        return Form(self.top, self.shape, self.classes, self.mean, self.std)


@dataclass(frozen=True)
class Table:
    """The examples of a dataset without their pixels.

    Attributes:
        prints: The fingerprints of all images, sorted, (P, 2) uint64. These images are called the pool.
        rows: The row in the pool of each example, (N,) int64, by the name of the split: `train`, `validation` and, if
            there are unlabelled images, `transfer`.
        labels: The labels of the examples, (N,) int64, by the name of the split: `train` and `validation`.
        distilled: The indices of the examples of `train` from which distilled students learn, (N,) int64. `None` if
            these are all examples.
    """

    facts: Facts
    prints: np.ndarray
    rows: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    distilled: np.ndarray | None

    @property
    def pool(self) -> str:
        """The name of the pool. Datasets with the same images, such as the folds of a cross-validation, share it."""
        content = sha256(self.facts.model_dump_json(include={"shape", "dtype", "chunk"}).encode())
        content.update(np.ascontiguousarray(self.prints).data)
        return content.hexdigest()[:POOL_DIGITS]

    def dataset(self, pixels: np.ndarray, digest: str) -> Dataset:
        """Return the dataset, without its test split.

        Args:
            pixels: The pixels of the pool, (P, C, H, W). The array may be memory-mapped.
            digest: The digest of the whole dataset, which includes the test split.
        """
        form, parts = self.facts.form, self._parts(pixels)
        labelled, validation, *more = parts
        splits = [part.split(form.top) for part in parts]
        train, transfer = splits[0], splits[2] if "transfer" in self.rows else None
        return Dataset(
            source=self.facts.source,
            classes=form.classes,
            train=train,
            validation=splits[1],
            distilled=train if self.distilled is None else splits[-1],
            transfer=transfer,
            mean=form.mean,
            std=form.std,
            indices={},
            digest=digest,
            training_digest=form.training_digest(labelled, validation),
            distillation_digest=form.training_digest(labelled, validation, *more),
            split_digests={"validation": form.split_digest(validation)},
            prints={"train": labelled.prints[:, 0], "validation": validation.prints[:, 0]},
            test_sketch=(),
            notes=[],
            skipped=[],
            _test=None,
        )

    def require(self, digest: str) -> None:
        """Check that the table belongs to a dataset, and that all its rows exist.

        Args:
            digest: The field `distillation_digest` of the dataset.

        Raises:
            ValueError: The table belongs to another dataset, or it is damaged.
        """
        indices = {**self.rows, **({} if self.distilled is None else {"distilled": self.distilled})}
        for name, rows in indices.items():
            count = len(self.rows["train"]) if name == "distilled" else len(self.prints)
            if rows.dtype != np.int64 or rows.ndim != 1 or (len(rows) and not 0 <= rows.min() <= rows.max() < count):
                raise ValueError(f"the rows of {name} are not in the table")
        if self.facts.form.training_digest(*self._parts(np.empty(0))) != digest:
            raise ValueError("it belongs to other data")

    def _parts(self, pixels: np.ndarray) -> list[Part]:
        """Return the parts whose digest is the distillation digest, in the order in which `assemble` lists them."""
        parts = [
            Part(pixels, self.labels.get(name, np.full(len(rows), UNLABELLED)), self.prints[rows], rows)
            for name, rows in self.rows.items()
        ]
        return parts if self.distilled is None else [*parts, parts[0].take(self.distilled)]


def pack(dataset: Dataset, chunk_bytes: int) -> tuple[Table, Callable[[int, int], np.ndarray]]:
    """Return the table of a dataset, and a function that reads pixels of the pool.

    All pixels are read once, to compute the fingerprints.

    Args:
        chunk_bytes: The maximum size of one file of pixels. A file holds at least one image.

    Returns:
        The table and the function. The arguments of the function are the first row in the pool, and the row after the
        last. The function returns the pixels of these images, (B, C, H, W).
    """
    splits = {"train": dataset.train, "validation": dataset.validation}
    if dataset.transfer is not None:
        splits["transfer"] = dataset.transfer
    prints = np.concatenate([_prints(split) for split in splits.values()])
    order = np.lexsort(prints.T)  # equal images keep rows of their own, because a search holds out rows
    rows = np.argsort(order)
    ends = np.cumsum([len(split) for split in splits.values()])
    pixels = dataset.train.pixels
    table = Table(
        facts=Facts(
            source=dataset.source,
            top=dataset.train.top,
            shape=dataset.input_shape,
            classes=dataset.classes,
            mean=dataset.mean,
            std=dataset.std,
            dtype="uint8" if pixels.dtype == torch.uint8 else "float32",  # sources have no other types
            chunk=max(1, chunk_bytes // (pixels[0].numel() * pixels.element_size())),
        ),
        prints=prints[order],
        rows=dict(zip(splits, np.split(rows, ends[:-1]), strict=True)),
        labels={name: splits[name].labels.numpy() for name in ("train", "validation")},
        distilled=None if dataset.distilled is dataset.train else _places(dataset.train, dataset.distilled),
    )

    def read(begin: int, end: int) -> np.ndarray:
        examples = order[begin:end]  # indices into all splits, one after the other
        images = torch.empty((len(examples), *table.facts.shape), dtype=pixels.dtype)
        for split, last in zip(splits.values(), ends, strict=True):
            here = (examples < last) & (examples >= last - len(split))
            images[torch.from_numpy(here)] = split.stored(torch.from_numpy(examples[here] - (last - len(split))))
        return images.numpy()

    return table, read


def write_table(table: Table, file: Path) -> None:
    """Write a table to a safetensors file."""
    arrays = {"prints": table.prints}
    arrays |= {f"rows/{name}": rows for name, rows in table.rows.items()}
    arrays |= {f"labels/{name}": labels for name, labels in table.labels.items()}
    if table.distilled is not None:
        arrays["distilled"] = table.distilled
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, file, {FACTS: table.facts.model_dump_json()})


def read_table(file: Path, digest: str) -> Table:
    """Read the table of a dataset.

    Args:
        digest: The field `distillation_digest` of the dataset.

    Raises:
        UserError: The file is damaged, or it belongs to another dataset.
    """
    try:
        with safe_open(file, framework="numpy") as tensors:
            facts = Facts.model_validate_json(tensors.metadata()[FACTS])
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict
        names = ["train", "validation", *(["transfer"] if "rows/transfer" in arrays else [])]
        table = Table(
            facts,
            arrays["prints"],
            {name: arrays[f"rows/{name}"] for name in names},
            {name: arrays[f"labels/{name}"] for name in names[:2]},
            arrays.get("distilled"),
        )
        table.require(digest)
    except (OSError, SafetensorError, ValidationError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{file}: is damaged: {' '.join(str(error).split())}. Delete the file") from error
    return table


def _prints(split: Split) -> np.ndarray:
    """Return the fingerprints of the images of a split, (N, 2) uint64."""
    chunks = torch.arange(len(split)).split(READ)
    return np.concatenate([fingerprints(split.stored(rows).numpy()) for rows in chunks])


def _places(whole: Split, part: Split) -> np.ndarray:
    """Return the index in `whole` of each example of `part`, (N,) int64. Both splits share their array of pixels."""
    rows = whole.pixel_rows.numpy()
    order = np.argsort(rows)
    places: np.ndarray = order[np.searchsorted(rows, part.pixel_rows.numpy(), sorter=order)]
    return places
