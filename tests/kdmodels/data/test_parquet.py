"""Parquet tables of images: encoded as in published datasets, or as lists of numbers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdmodels.data import Dataset, load_dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data

IMAGES = np.random.default_rng(0).integers(0, 256, (600, 6, 5, 3), dtype=np.uint8)  # more than are read at once


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


ENCODED = [png(image) for image in IMAGES]
WORDS = ["cat", "dog", "cow"] * 200


def load(path: Path, columns: dict[str, Any], **more: object) -> Dataset:
    pd.DataFrame(columns).to_parquet(path)
    return load_dataset(Data.model_validate({"source": str(path), **more}))


@pytest.mark.parametrize("form", ["bytes", "struct", "numbers"])
def test_every_form_of_the_images_gives_the_same_dataset(tmp_path: Path, form: str) -> None:
    images: dict[str, list[Any]] = {
        "bytes": ENCODED,
        "struct": [{"bytes": content, "path": "x.png"} for content in ENCODED],
        "numbers": [image.ravel() for image in IMAGES],
    }
    shape = {"shape": [[6, 5, 3]] * 600} if form == "numbers" else {}
    split = ["train", "train", "train", "test", "test", "test", "validation", "validation", "validation", "train"] * 60
    data = load(tmp_path / "x.parquet", {"image": images[form], "label": WORDS, "split": split, **shape})
    assert (data.input_shape, data.classes) == ((3, 6, 5), ["cat", "cow", "dog"])
    for part, name in ((data.train, "train"), (data.validation, "validation"), (data.read_test(), "test")):
        rows = [row for row, row_split in enumerate(split) if row_split == name]
        assert part.images.mul(255).round().numpy() == pytest.approx(IMAGES[rows].transpose(0, 3, 1, 2))
        assert [data.classes[label] for label in part.labels] == [WORDS[row] for row in rows]
    assert data.notes == []


def test_a_table_without_splits_is_split_and_unreadable_rows_are_named(tmp_path: Path) -> None:
    columns = {"image": [*ENCODED[:59], b"nothing"], "label": [0, 1] * 30}
    with pytest.raises(UserError, match=r"1 images can't be read: 59 \(is not an image in a known format\)"):
        load(tmp_path / "x.parquet", columns)
    data = load(tmp_path / "x.parquet", columns, skip=True, size=4)
    assert [len(data.train), len(data.validation), data.test_examples] == [42, 5, 12]
    assert (data.input_shape, data.skipped) == ((3, 4, 4), ["59 (is not an image in a known format)"])


@pytest.mark.parametrize(("columns", "message"), [
    ({"image": [], "label": []}, "has no row. Allowed: at least one image"),
    ({"picture": ENCODED[:6], "label": [0, 1] * 3}, "has no column 'image'. Its columns: picture, label"),
    ({"image": ENCODED[:6], "label": [0.5, 1] * 3}, "labels have the type float64. Allowed: integers or text"),
    ({"image": [1] * 6, "label": [0, 1] * 3}, "the column 'image' holds int64. Allowed: bytes, or lists of numbers"),
    ({"image": [[1, 2]] * 6, "label": [0, 1] * 3}, "has no column 'shape'"),
    ({"image": [[1, 2]] * 6, "label": [0, 1] * 3, "shape": [[1, 3]] * 6}, "images don't fit their shapes"),
    ({"image": [[1, 300]] * 6, "label": [0, 1] * 3, "shape": [[1, 2]] * 6}, "has values from 1 to 300. Allowed: "),
    ({"image": ENCODED[:6], "label": [0, 1] * 3, "split": ["x"] * 6}, "holds 'x', which is not a split. Allowed"),
    ({"image": ENCODED[:6], "label": [0, 1] * 3, "split": ["val"] * 6}, "no row of the split train. Its splits: val"),
])  # fmt: skip
def test_an_invalid_table_is_reported_in_one_line(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path / "x.parquet", columns)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nothing" * 100])
def test_a_damaged_table_is_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.parquet: can't be read: [^\n]*$"):
        load_dataset(Data(source=str(tmp_path / "x.parquet")))


def test_a_damaged_page_is_not_reported_as_a_cache_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"image": ENCODED, "label": WORDS}).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36  # the header of the first page
    path.write_bytes(content)
    with pytest.raises(UserError, match="a page of the table can't be read: "):
        load_dataset(Data(source=str(path)))


@pytest.mark.parametrize("sizes", [(9, 8), (8, 9)])
def test_a_later_image_of_another_size_is_refused(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """Regression: shapes were compared only within a chunk of rows, so later images were read at wrong offsets."""
    images = [np.zeros(size * size, np.uint8) for size in sizes for _ in range(256)]
    shapes = [[size, size, 1] for size in sizes for _ in range(256)]
    columns = {"image": images, "label": [0, 1] * 256, "shape": shapes}
    message = rf"x\.parquet: the first 256 images are uint8 \(1, {sizes[0]}, {sizes[0]}\), got uint8 \(1, {sizes[1]}, "
    with pytest.raises(UserError, match=message):
        load(tmp_path / "x.parquet", columns)
    assert load(tmp_path / "y.parquet", columns, size=4).input_shape == (1, 4, 4)
