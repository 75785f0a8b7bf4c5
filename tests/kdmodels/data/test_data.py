"""Data: splits that do not overlap, a digest of content, errors that say what is missing."""

import os
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from kdmodels.data import load_dataset
from kdmodels.errors import UserError
from kdmodels.experiment import Data

DIGITS = load_dataset(Data(source="digits", validation=0.2))
mnist_files = pytest.mark.skipif(not os.environ.get("KD_DATA"), reason="KD_DATA names no folder with MNIST/raw")


def test_digits_are_split_without_overlap_or_loss() -> None:
    test = DIGITS.read_test()
    parts = [DIGITS.train, DIGITS.validation, test]
    assert [len(part) for part in parts] == [1150, 288, 359]
    whole = torch.cat([part.images for part in parts]).mul(16).round().byte().flatten(1).tolist()
    original = load_digits().data.astype(int).tolist()
    assert sorted(whole) == sorted(original)


def test_digits_follow_the_input_convention() -> None:
    images = DIGITS.train.images
    assert images.dtype == torch.float32
    assert images.shape[1:] == DIGITS.input_shape == (1, 8, 8)
    assert images.min() == 0
    assert images.max() == 1
    assert DIGITS.mean == [pytest.approx(images.mean().item())]
    assert DIGITS.std == [pytest.approx(images.std().item())]


def test_splits_are_stratified() -> None:
    for part in (DIGITS.train, DIGITS.validation, DIGITS.read_test()):
        share = torch.bincount(part.labels, minlength=10) / len(part)
        assert (share - 0.1).abs().max() < 0.02


def test_indices_name_the_examples_in_the_sources_order() -> None:
    original = load_digits()
    for name, part in (("train", DIGITS.train), ("validation", DIGITS.validation)):
        rows = DIGITS.indices[name]
        assert rows == sorted(rows)
        assert part.images[:, 0].mul(16).numpy() == pytest.approx(original.images[rows])
        assert part.labels.tolist() == original.target[rows].tolist()


def test_the_digest_is_of_content() -> None:
    assert load_dataset(Data(source="digits", validation=0.2)).digest == DIGITS.digest
    assert load_dataset(Data(source="digits", validation=0.3)).digest != DIGITS.digest


@mnist_files
def test_mnist_is_the_official_one() -> None:
    mnist = load_dataset(Data(source="mnist"))
    assert [len(mnist.train), len(mnist.validation), len(mnist.read_test())] == [54_000, 6_000, 10_000]
    assert torch.bincount(mnist.read_test().labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert (mnist.mean, mnist.std) == ([0.1307], [0.3081])
    assert mnist.train.images.mean().item() == pytest.approx(0.1307, abs=1e-3)


def test_a_folder_without_mnist_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MNIST/raw/train-images-idx3-ubyte"):
        load_dataset(Data(source="mnist"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\x00\x00\x08\x03\x00\x00", b"garbage" * 100])
def test_damaged_mnist_files_are_a_users_error(tmp_path: Path, damage: bytes) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(damage)
    with pytest.raises(UserError, match="no readable MNIST"):
        load_dataset(Data(source="mnist"), tmp_path)


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_a_share_that_leaves_a_class_empty_is_a_users_error(share: float) -> None:
    with pytest.raises(UserError, match=r"data\.validation: 0\.\d+ of 1438 examples"):
        load_dataset(Data(source="digits", validation=share))


def test_a_subset_leaves_one_of_each_class() -> None:
    data = load_dataset(Data(source="digits", subset=1428), None)
    assert len(data.train) + len(data.validation) == 1428
    for wrong in (9, 1429):
        with pytest.raises(UserError, match=rf"data\.subset: {wrong} is out of range \(allowed: 10 to 1428\)"):
            load_dataset(Data(source="digits", subset=wrong), None)
