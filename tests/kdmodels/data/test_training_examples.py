"""Few labels: which training examples keep their labels, and from which images distilled students learn."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdmodels.data import Dataset, load_dataset
from kdmodels.data.parts import Part
from kdmodels.data.training_examples import choose_training_examples
from kdmodels.errors import UsageError, UserError
from kdmodels.experiment import Data


def digits(**more: object) -> Dataset:
    return load_dataset(Data.model_validate({"source": "digits", **more}))


ALL = digits()
REST = digits(labelled=100, transfer={"unlabelled": "rest"})


def rows(data: Dataset, *names: str) -> list[int]:
    return sorted(row for name in names for row in data.indices[name])


def part(sizes: list[int], seed: int = 0) -> Part:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    prints = generator.integers(2**64, size=(len(labels), 2), dtype=np.uint64)
    return Part(np.zeros((len(labels), 1, 2, 2), np.uint8), labels, prints, np.arange(len(labels)))


def few(**fields: object) -> Data:
    return Data.model_validate({"source": "digits", **fields})


def test_labelled_examples_and_the_rest_are_the_training_split() -> None:
    assert (len(REST.train), len(REST.distillation_split)) == (100, len(ALL.train))
    assert rows(REST, "train", "rest") == ALL.indices["train"]
    assert REST.indices["validation"] == ALL.indices["validation"]
    assert REST.split_digests == ALL.split_digests
    assert torch.bincount(REST.train.labels).sub(10).abs().max() <= 1
    assert REST.transfer is not None
    assert REST.transfer.labels.unique().tolist() == [-1]
    assert torch.equal(REST.distillation_split.images, torch.cat([REST.train.images, REST.transfer.images]))
    assert REST.distillation_split.labels.tolist() == REST.train.labels.tolist() + [-1] * len(REST.transfer)
    assert REST.notes == [
        "100 of 1294 training examples keep their labels",
        "distilled students learn from 100 labelled and 1194 unlabelled images",
    ]


def test_without_transfer_the_other_examples_are_left_out() -> None:
    alone = digits(labelled=100)
    assert alone.indices == {name: REST.indices[name] for name in ("train", "validation")}
    assert (
        (alone.mean, alone.std)
        == (REST.mean, REST.std)
        == (
            [pytest.approx(REST.train.images.mean().item())],
            [pytest.approx(REST.train.images.std().item())],
        )
    )
    assert alone.distillation_split.labels.tolist() == alone.train.labels.tolist()
    assert alone.notes == ["100 of 1294 training examples keep their labels"]


def test_the_examples_of_each_class_with_the_first_fingerprints_keep_their_labels() -> None:
    whole = part([40, 20, 60])
    chosen = choose_training_examples(whole, None, few(labelled=12), ["a", "b", "c"])
    ranked = sorted(zip(whole.labels.tolist(), whole.prints[:, 0].tolist(), whole.rows.tolist(), strict=True))
    first = {label: [row for *_, row in group] for label, group in groupby(ranked, key=lambda item: item[0])}
    assert chosen.labelled.rows.tolist() == sorted(first[0][:4] + first[1][:2] + first[2][:6])


def test_the_count_does_not_depend_on_labels() -> None:
    whole, images = part([40, 20, 60]), part([30], seed=1)
    counted = few(transfer={"unlabelled": "./more", "count": 7})
    chosen = choose_training_examples(whole, images, counted, ["a", "b", "c"]).unlabelled
    assert chosen is not None
    assert chosen.rows.tolist() == sorted(sorted(range(30), key=lambda row: images.prints[row, 1])[:7])
    rest = digits(labelled=100, transfer={"unlabelled": "rest", "count": 300})
    assert len(rest.indices["rest"]) == 300
    assert set(rest.indices["rest"]) < set(REST.indices["rest"])
    assert ALL.train.rows is not None
    labels = dict(zip(ALL.indices["train"], ALL.train.labels.tolist(), strict=True))
    counts = np.bincount([labels[row] for row in rest.indices["rest"]], minlength=10)
    assert 10 < counts.min() <= counts.max() < 55  # a fair draw of 300 has 30 ± 5 of each class


def test_classes_restrict_distilled_students_but_not_their_control() -> None:
    only = digits(transfer={"classes": [7, "8"]})
    assert only.indices == ALL.indices
    assert only.train.labels.tolist() == ALL.train.labels.tolist()
    expected = [label for label in ALL.train.labels.tolist() if label in (7, 8)]
    assert only.distillation_split.labels.tolist() == expected
    assert only.notes == [
        f"distilled students learn from {len(expected)} labelled and 0 unlabelled images of 7, 8",
        "distilled students see no image of 0, 1, 2, 3, 4, 5, 6, 9, but hard-labels does",
    ]
    rest = digits(labelled=100, transfer={"unlabelled": "rest", "classes": [7, 8]})
    labels = dict(zip(ALL.indices["train"], ALL.train.labels.tolist(), strict=True))
    assert rest.train.labels.tolist() == REST.train.labels.tolist()
    assert rest.indices["rest"] == [row for row in REST.indices["rest"] if labels[row] in (7, 8)]
    assert len(rest.distillation_split) == len(expected)
    assert set(rest.distillation_split.labels.tolist()) == {-1, 7, 8}


def test_the_subset_and_the_folds_come_first() -> None:
    subset = digits(subset=500, labelled=50, transfer={"unlabelled": "rest"})
    assert rows(subset, "train", "rest") == digits(subset=500).indices["train"]
    for fold in range(3):
        fields = {"source": "digits", "folds": 3}
        whole = load_dataset(Data.model_validate(fields), fold=fold)
        data = Data.model_validate({**fields, "labelled": 50, "transfer": {"unlabelled": "rest"}})
        folded = load_dataset(data, fold=fold)
        assert len(folded.train) == 50
        assert rows(folded, "train", "rest") == whole.indices["train"]
        assert folded.indices["validation"] == whole.indices["validation"]


def test_the_digests_cover_what_is_learned_from() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"labelled": 100},
        {"labelled": 101},
        {"labelled": 100, "transfer": {"unlabelled": "rest"}},
        {"labelled": 100, "transfer": {"unlabelled": "rest", "count": 500}},
        {"labelled": 100, "transfer": {"unlabelled": "rest", "classes": [7, 8]}},
        {"transfer": {"classes": [7, 8]}},
        {"transfer": {"classes": [7]}},
    ]
    loaded = [digits(**fields) for fields in settings]
    assert len({data.distillation_digest for data in loaded}) == len(settings)
    first, second = (digits(transfer={"classes": classes}).distillation_digest for classes in ([8, 7], [7, 8]))
    assert first == second
    whole, hundred, more, *others = [data.training_digest for data in loaded]
    assert len({whole, hundred, more}) == 3
    assert others == [hundred] * 3 + [whole] * 2  # teachers and controls do not learn from transfer images
    assert [data.distillation_digest == data.training_digest for data in loaded] == [True] * 3 + [False] * 5


@pytest.fixture
def arrays(tmp_path: Path) -> dict[str, np.ndarray]:
    """60 images of 3 classes, and 6 test images. The test saves the arrays as `tmp_path / "few.npz"`."""
    generator = np.random.default_rng(0)
    names = {"images": 60, "test_images": 6, "validation_images": 6}
    arrays = {name: generator.integers(256, size=(size, 4, 4), dtype=np.uint8) for name, size in names.items()}
    arrays |= {name.replace("images", "labels"): np.arange(size) % 3 for name, size in names.items()}
    return arrays


def test_images_that_test_and_the_unlabelled_rest_share_are_reported(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    source = str(tmp_path / "few.npz")
    fields = {"source": source, "labelled": 9, "transfer": {"unlabelled": "rest"}}
    np.savez(source, **arrays)
    first = load_dataset(Data.model_validate(fields))
    arrays["test_images"][0] = arrays["images"][first.indices["rest"][0]]
    np.savez(source, **arrays)
    data = load_dataset(Data.model_validate(fields))
    assert data.notes[2:] == ["1 of 6 images of test are also in rest, with identical pixels"]
    with pytest.raises(UserError, match=r"^data\.strict: 1 of 6 images of test are also in rest"):
        load_dataset(Data.model_validate(fields | {"strict": True}))


@pytest.mark.parametrize(("fields", "message"), [
    ({"labelled": 9}, "data.labelled: 9 is out of range. Allowed: 10 to 1284"),
    ({"labelled": 1285}, "data.labelled: 1285 is out of range. Allowed: 10 to 1284"),
    ({"subset": 200, "labelled": 180}, "data.labelled: 180 is out of range. Allowed: 10 to 170"),
    ({"labelled": 100, "transfer": {"unlabelled": "rest", "count": 1195}},
     "data.transfer.count: 1195 is out of range. Allowed: 1 to 1194"),
    ({"transfer": {"classes": [7, 10]}},
     "data.transfer.classes: no training example has the class '10'. Did you mean '1'? Allowed: 0, 1, 2, 3, 4, 5, "
     "6, 7, 8, 9"),
])  # fmt: skip
def test_wrong_numbers_and_classes_are_reported(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        digits(**fields)
    assert str(error.value) == message
