"""Arrays of the user's: .npz files and functions, in every order of axes and type that is allowed."""

import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdmodels.data import Dataset, load_dataset
from kdmodels.data.arrays import class_codes
from kdmodels.errors import UserError
from kdmodels.experiment import Data

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (40, 3, 6, 5), dtype=np.uint8)  # (N, C, H, W)
LABELS = np.arange(40) % 2


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def load(path: Path | str, **more: object) -> Dataset:
    return load_dataset(Data.model_validate({"source": str(path), **more}))


def whole(data: Dataset) -> torch.Tensor:
    """All images in the source's own order, test last."""
    rows = torch.tensor(data.indices["train"] + data.indices["validation"])
    images = torch.cat([data.train.images, data.validation.images])
    return images[rows.argsort()]


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES.transpose(0, 2, 3, 1), IMAGES.astype(np.int64), IMAGES.astype(np.float64) / 255],
    ids=["channels first", "channels last", "int64", "float64"],
)
def test_every_spelling_of_the_same_images_is_the_same(tmp_path: Path, images: np.ndarray) -> None:
    path = npz(tmp_path / "x.npz", images=images, labels=LABELS, test_images=images[:4], test_labels=LABELS[:4])
    data = load(path)
    assert (data.input_shape, data.classes) == ((3, 6, 5), ["0", "1"])
    assert [len(data.train), len(data.validation), data.test_examples] == [36, 4, 4]
    assert whole(data).numpy() == pytest.approx(IMAGES / 255, abs=1e-6)
    assert data.read_test().images.numpy() == pytest.approx(IMAGES[:4] / 255, abs=1e-6)
    assert load(path).digest == data.digest


def test_grey_images_and_named_classes(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", images=IMAGES[:, 0], labels=LABELS, classes=["cat", "dog"])
    data = load(path)
    assert (data.input_shape, data.classes, data.test_examples) == ((1, 6, 5), ["cat", "dog"], 8)
    words = np.array(["dog", "cat"])[LABELS]
    assert load(npz(tmp_path / "y.npz", images=IMAGES[:, 0], labels=words)).classes == ["cat", "dog"]


def test_numbers_as_text_are_in_the_order_of_folders(tmp_path: Path) -> None:
    """Sorted as text, 10 came before 2, and a submission had the wrong categories."""
    words = np.array(["10", "2"])[LABELS]
    data = load(npz(tmp_path / "x.npz", images=IMAGES, labels=words, test_images=IMAGES, test_labels=words))
    assert data.classes == ["2", "10"]
    assert data.read_test().labels.tolist() == [1 - label for label in LABELS.tolist()]


def test_a_validation_split_of_its_own_and_another_size(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "x.npz", images=IMAGES, labels=LABELS, validation_images=IMAGES[:6], validation_labels=LABELS[:6]
    )
    data = load(path, size=[12, 10])
    assert (data.input_shape, len(data.validation)) == ((3, 12, 10), 6)
    # An image made twice as large keeps its mean but for its borders.
    assert data.validation.images.mean().item() == pytest.approx(IMAGES[:6].mean() / 255, abs=0.02)


@pytest.mark.parametrize(("change", "told"), [
    ({"labels": None}, "labels is missing; it holds: images"),
    ({"labels": LABELS[:3]}, "labels has the shape (3,) and images (40, 3, 6, 5); allowed: a label for each image"),
    ({"labels": LABELS / 2}, "labels are of type float64; allowed: whole numbers or text"),
    ({"label": LABELS}, "holds 'label'; did you mean 'labels'? allowed: images, labels, validation_images"),
    ({"images": IMAGES[0]}, "labels has the shape (40,) and images (3, 1, 6, 5)"),
    ({"images": IMAGES.reshape(40, -1)}, "images has the shape (40, 90); allowed: (N, H, W), (N, C, H, W) or"),
    ({"images": IMAGES / 1.0}, "images goes from 0.0 to 255.0; allowed: 0 to 255 as whole numbers, 0 to 1 as floats"),
    ({"images": IMAGES.astype(int) - 1}, "images goes from -1 to"),
    ({"images": np.full((40, 6, 5), np.nan)}, "images goes from nan to nan"),
    ({"images": IMAGES > 3}, "images is of type bool"),
    ({"images": np.empty((0, 6, 5)), "labels": LABELS[:0]}, "images is empty; allowed: at least one image"),
    ({"test_images": IMAGES}, "test_labels is missing"),
    ({"test_images": IMAGES[:, :1], "test_labels": LABELS}, "the splits' images differ: "),
    ({"test_images": IMAGES, "test_labels": LABELS + 5}, "the test split has classes that train has not: 5, 6"),
    ({"classes": "cat"}, "classes has the shape (); allowed: a list of names"),
    ({"test_images": IMAGES, "test_labels": LABELS.astype(str)}, "whole numbers in one split and text in another"),
    ({"classes": ["cat"]}, "labels go from 0 to 1; allowed: 0 to 0, by classes"),
    ({"images": np.array([None] * 40)}, "Python objects"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    arrays = {"images": IMAGES, "labels": LABELS} | change
    path = npz(tmp_path / "x.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UserError) as error:
        load(path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: can't be read: "):
        load(tmp_path / "x.npz")


FUNCTION = """
    import numpy as np
    def load():
        images = np.arange(40 * 16, dtype=np.uint8).reshape(40, 4, 4)
        return {"images": images, "labels": np.arange(40) % 2}
    def nothing():
        return None
    def ragged():
        return {"images": [[1], [1, 2]]}
    def broken():
        raise KeyError("no such file")
"""


def test_a_function_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_data.py").write_text(textwrap.dedent(FUNCTION))
    monkeypatch.chdir(tmp_path)
    data = load("own_data:load")
    assert (data.input_shape, len(data.train), data.test_examples) == ((1, 4, 4), 28, 8)
    assert load("./own_data.py:load").digest == data.digest
    assert load(f"{tmp_path}/own_data.py:load", size=8).input_shape == (1, 8, 8)
    assert "own_data" not in sys.modules


@pytest.mark.parametrize(("word", "told"), [
    ("no_such_module:load", "no_such_module:load: ModuleNotFoundError: No module named 'no_such_module'"),
    ("./gone.py:load", "./gone.py:load: FileNotFoundError"),
    ("numpy:load_data", "AttributeError: module 'numpy' has no attribute 'load_data'"),
    ("os:getcwd", "data.source: os is a module of Python itself; allowed: your own, or an installed library's"),
    ("./own_data.py:nothing", "returned NoneType; allowed: a mapping with images, labels"),
    ("./own_data.py:ragged", "own_data.py:ragged: ValueError: setting an array element"),
    ("./own_data.py:broken", "own_data.py:broken: KeyError: 'no such file'"),
])  # fmt: skip
def test_a_function_that_is_not_there_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, told: str
) -> None:
    (tmp_path / "own_data.py").write_text(textwrap.dedent(FUNCTION))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load(word)
    assert told in str(error.value)


def test_digits_in_another_size_and_without_a_transfer_set(tmp_path: Path) -> None:
    assert load("digits", size=16).input_shape == (1, 16, 16)
    with pytest.raises(UserError, match="image files do not fit digits, whose values end at 16"):
        load("digits", transfer={"unlabelled": str(tmp_path)})


def test_as_many_classes_as_examples_take_no_longer_than_each_is_read() -> None:
    """With a search through all classes for each label this test would run for an hour."""
    labels = np.array([f"class {number:06}" for number in range(500_000)])
    classes, (codes,) = class_codes([labels], None, "x")
    assert classes == labels.tolist()
    assert np.array_equal(codes, np.arange(len(labels)))
