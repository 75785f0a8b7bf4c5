"""A packed dataset holds the same training and validation data as the original, and nothing of the test split."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from kdmodels.data import Dataset, Split, load_dataset
from kdmodels.data.packed import FACTS, Table, pack, read_table, write_table
from kdmodels.errors import UserError
from kdmodels.experiment import Data

SETTINGS: list[dict[str, Any]] = [
    {},
    {"folds": 3},
    {"labelled": 100, "transfer": {"unlabelled": "rest", "count": 50}},
    {"transfer": {"noise": "uniform", "count": 150, "alone": True}},
    {"labelled": 500, "transfer": {"classes": ["3", "8"]}},
]


def repacked(dataset: Dataset, folder: Path, chunk_bytes: int = 64 * 100) -> Dataset:
    table, read = pack(dataset, chunk_bytes)
    write_table(table, folder / "table.safetensors")
    table = read_table(folder / "table.safetensors", dataset.distillation_digest)
    count, size = len(table.prints), table.facts.chunk
    assert size == 100
    pixels = np.concatenate([read(begin, min(begin + size, count)) for begin in range(0, count, size)])
    return table.dataset(pixels, dataset.digest)


def same(one: Split | None, other: Split | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels) and one.top == other.top


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_training_data_are_the_same_and_the_test_split_is_left_out(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    dataset = load_dataset(Data.model_validate({"source": "digits"} | settings))
    copy = repacked(dataset, tmp_path)
    for name in ("train", "validation", "distilled", "transfer", "distillation_split", "repeated"):
        assert same(getattr(copy, name), getattr(dataset, name)), name
    assert copy.signature == dataset.signature
    assert copy.classes == dataset.classes
    for name in ("digest", "training_digest", "distillation_digest"):
        assert getattr(copy, name) == getattr(dataset, name)
    assert copy.split_digests == {"validation": dataset.split_digests["validation"]}
    assert all(map(torch.equal, copy.inner_rows, dataset.inner_rows))
    with pytest.raises(RuntimeError, match="the copy in the tracking store has no test split"):
        copy.read_test()
    test = {image.tobytes() for image in dataset.read_test().images.numpy()}
    assert not test & {image.tobytes() for image in (copy.train.pixels / copy.train.top).numpy()}


def test_splits_may_come_from_several_arrays_of_floats(tmp_path: Path) -> None:
    generator, arrays = np.random.default_rng(0), {}
    for prefix in ("", "validation_", "test_"):
        arrays[f"{prefix}images"] = generator.random((60, 1, 5, 4), dtype=np.float32)
        arrays[f"{prefix}labels"] = np.arange(60) % 3
    np.savez(tmp_path / "images.npz", **arrays)
    dataset = load_dataset(Data(source=str(tmp_path / "images.npz")))
    copy = repacked(dataset, tmp_path, chunk_bytes=4 * 20 * 100)
    assert same(copy.train, dataset.train)
    assert same(copy.validation, dataset.validation)


def test_the_folds_of_a_cross_validation_share_one_pool() -> None:
    data = Data(source="digits", folds=3)
    datasets = [load_dataset(data, fold=fold) for fold in range(3)]
    tables = [pack(dataset, 100)[0] for dataset in datasets]
    assert len({table.pool for table in tables}) == 1
    assert len({dataset.distillation_digest for dataset in datasets}) == 3
    assert len(tables[0].prints) == len(datasets[0].train) + len(datasets[0].validation)


def test_equal_images_keep_rows_of_their_own_because_a_search_holds_out_rows(tmp_path: Path) -> None:
    dataset = load_dataset(Data(source="digits"))
    train = Split(dataset.train.pixels, dataset.train.labels, dataset.train.top, dataset.train.pixel_rows.clone())
    train.pixel_rows[:50] = train.pixel_rows[50:100]  # 50 images occur twice
    table, read = pack(replace(dataset, train=train, distilled=train), 64 * 100)
    copy = table.dataset(read(0, len(table.prints)), "")
    assert torch.equal(copy.train.images, train.images)
    assert len(set(copy.train.pixel_rows.tolist())) == len(train)


@pytest.fixture
def table() -> Table:
    return pack(load_dataset(Data(source="digits")), 100)[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels/train", np.zeros(3, dtype=np.int64)),
        ("rows/train", np.array([10**9])),
        ("rows/train", np.array([-1])),
        ("rows/validation", np.zeros((2, 2), dtype=np.int64)),
        ("prints", np.zeros((2000, 2), dtype=np.uint64)),
        ("prints", np.zeros(2000, dtype=np.uint64)),
        ("distilled", np.array([0, 10**9])),
        ("distilled", np.array([0, 1])),
        ("rows/transfer", np.array([0])),
    ],
)
def test_a_changed_table_is_refused(table: Table, name: str, value: np.ndarray, tmp_path: Path) -> None:
    file, digest = tmp_path / "table.safetensors", load_dataset(Data(source="digits")).distillation_digest
    write_table(table, file)
    save_file(load_file(file) | {name: value}, file, {FACTS: table.facts.model_dump_json()})
    with pytest.raises(UserError, match=r"table.safetensors: is damaged: .*Delete the file"):
        read_table(file, digest)


@pytest.mark.parametrize("facts", ["{}", "[", '{"dtype": "object"}'])
def test_wrong_facts_are_refused(table: Table, facts: str, tmp_path: Path) -> None:
    write_table(table, tmp_path / "table.safetensors")
    save_file(load_file(tmp_path / "table.safetensors"), tmp_path / "table.safetensors", {FACTS: facts})
    with pytest.raises(UserError, match="is damaged"):
        read_table(tmp_path / "table.safetensors", "")


def test_other_classes_are_other_data(table: Table, tmp_path: Path) -> None:
    dataset = load_dataset(Data(source="digits"))
    renamed = replace(table, facts=table.facts.model_copy(update={"classes": [*"0123456798"]}))
    write_table(renamed, tmp_path / "table.safetensors")
    with pytest.raises(UserError, match="it belongs to other data"):
        read_table(tmp_path / "table.safetensors", dataset.distillation_digest)
