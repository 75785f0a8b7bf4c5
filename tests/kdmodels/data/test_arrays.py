"""The user's arrays: .npz files and functions, with every allowed order of axes and type."""

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
    """Return the images of train and validation in the order of the source."""
    rows = torch.tensor(data.indices["train"] + data.indices["validation"])
    images = torch.cat([data.train.images, data.validation.images])
    return images[rows.argsort()]


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES.transpose(0, 2, 3, 1), IMAGES.astype(np.int64), IMAGES.astype(np.float64) / 255],
    ids=["channels first", "channels last", "int64", "float64"],
)
def test_the_order_of_axes_and_the_type_do_not_change_the_dataset(tmp_path: Path, images: np.ndarray) -> None:
    path = npz(tmp_path / "x.npz", images=images, labels=LABELS, test_images=images[:4], test_labels=LABELS[:4])
    data = load(path)
    assert (data.input_shape, data.classes) == ((3, 6, 5), ["0", "1"])
    assert [len(data.train), len(data.validation), data.test_examples] == [36, 4, 4]
    assert whole(data).numpy() == pytest.approx(IMAGES / 255, abs=1e-6)
    assert data.read_test().images.numpy() == pytest.approx(IMAGES[:4] / 255, abs=1e-6)
    assert load(path).digest == data.digest


def test_images_without_a_channel_axis_are_grey_and_class_names_are_kept(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", images=IMAGES[:, 0], labels=LABELS, classes=["cat", "dog"])
    data = load(path)
    assert (data.input_shape, data.classes, data.test_examples) == ((1, 6, 5), ["cat", "dog"], 8)
    words = np.array(["dog", "cat"])[LABELS]
    assert load(npz(tmp_path / "y.npz", images=IMAGES[:, 0], labels=words)).classes == ["cat", "dog"]


def test_class_names_that_are_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    """Regression: 10 was sorted before 2, so a submission had wrong categories."""
    words = np.array(["10", "2"])[LABELS]
    data = load(npz(tmp_path / "x.npz", images=IMAGES, labels=words, test_images=IMAGES, test_labels=words))
    assert data.classes == ["2", "10"]
    assert data.read_test().labels.tolist() == [1 - label for label in LABELS.tolist()]


def test_the_sources_own_validation_split_is_used_and_images_are_resized(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "x.npz", images=IMAGES, labels=LABELS, validation_images=IMAGES[:6], validation_labels=LABELS[:6]
    )
    data = load(path, size=[12, 10])
    assert (data.input_shape, len(data.validation)) == ((3, 12, 10), 6)
    # Doubling the size of an image changes its mean only at the borders.
    assert data.validation.images.mean().item() == pytest.approx(IMAGES[:6].mean() / 255, abs=0.02)


@pytest.mark.parametrize(("change", "message"), [
    ({"labels": None}, "labels is missing. Its arrays: images"),
    ({"labels": LABELS[:3]}, "labels has the shape (3,), but images has (40, 3, 6, 5). Allowed: one label per image"),
    ({"labels": LABELS / 2}, "labels have the type float64. Allowed: integers or text"),
    ({"label": LABELS}, "has the array 'label'. Did you mean 'labels'? Allowed: images, labels, "),
    ({"images": IMAGES[0]}, "labels has the shape (40,), but images has (3, 1, 6, 5)"),
    ({"images": IMAGES.reshape(40, -1)}, "images has the shape (40, 90). Allowed: (N, H, W), (N, C, H, W) or"),
    ({"images": IMAGES / 1.0}, "images has values from 0.0 to 255.0. Allowed: integers from 0 to 255, or floats from"),
    ({"images": IMAGES.astype(int) - 1}, "images has values from -1 to"),
    ({"images": np.full((40, 6, 5), np.nan)}, "images has values from nan to nan"),
    ({"images": IMAGES > 3}, "images has the type bool"),
    ({"images": np.empty((0, 6, 5)), "labels": LABELS[:0]}, "images is empty. Allowed: at least one image"),
    ({"test_images": IMAGES}, "test_labels is missing"),
    ({"test_images": IMAGES[:, :1], "test_labels": LABELS}, "the splits' images differ: "),
    ({"test_images": IMAGES, "test_labels": LABELS + 5}, "the test split has classes that the train split lacks: 5, 6"),
    ({"classes": "cat"}, "classes has the shape (). Allowed: a list of names"),
    ({"test_images": IMAGES, "test_labels": LABELS.astype(str)}, "integers in one split and text in another"),
    ({"classes": ["cat"]}, "labels range from 0 to 1. Allowed: 0 to 0, the indices of classes"),
    ({"images": np.array([None] * 40)}, "Python objects"),
])  # fmt: skip
def test_invalid_arrays_are_reported_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {"images": IMAGES, "labels": LABELS} | change
    path = npz(tmp_path / "x.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UserError) as error:
        load(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_reported_in_one_line(tmp_path: Path, content: bytes) -> None:
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


def test_a_users_function_provides_the_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_data.py").write_text(textwrap.dedent(FUNCTION))
    monkeypatch.chdir(tmp_path)
    data = load("own_data:load")
    assert (data.input_shape, len(data.train), data.test_examples) == ((1, 4, 4), 28, 8)
    assert load("./own_data.py:load").digest == data.digest
    assert load(f"{tmp_path}/own_data.py:load", size=8).input_shape == (1, 8, 8)
    assert "own_data" not in sys.modules


@pytest.mark.parametrize(("word", "message"), [
    ("no_such_module:load", "no_such_module:load: ModuleNotFoundError: No module named 'no_such_module'"),
    ("./gone.py:load", "./gone.py:load: FileNotFoundError"),
    ("numpy:load_data", "AttributeError: module 'numpy' has no attribute 'load_data'"),
    ("os:getcwd", "data.source: os is a module of Python itself. Allowed: your own module, or an installed library's"),
    ("./own_data.py:nothing", "returned NoneType. Allowed: a mapping with images, labels"),
    ("./own_data.py:ragged", "own_data.py:ragged: ValueError: setting an array element"),
    ("./own_data.py:broken", "own_data.py:broken: KeyError: 'no such file'"),
])  # fmt: skip
def test_a_missing_or_failing_function_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    (tmp_path / "own_data.py").write_text(textwrap.dedent(FUNCTION))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load(word)
    assert message in str(error.value)


def test_digits_can_be_resized_but_have_no_transfer_set(tmp_path: Path) -> None:
    assert load("digits", size=16).input_shape == (1, 16, 16)
    with pytest.raises(
        UserError, match="image files hold values from 0 to 255, which don't fit digits with values from 0 to 16"
    ):
        load("digits", transfer={"unlabelled": str(tmp_path)})


def test_half_a_million_classes_are_encoded_in_linear_time() -> None:
    """A search through all classes for each label would take an hour."""
    labels = np.array([f"class {number:06}" for number in range(500_000)])
    classes, (codes,) = class_codes([labels], None, "x")
    assert classes == labels.tolist()
    assert np.array_equal(codes, np.arange(len(labels)))
