"""Datasets: splits without overlap, input convention, normalisation, digests, and errors in the data section."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.datasets import load_digits

from kdmodels.data import Split, dataset, load_dataset
from kdmodels.data.dataset import moments
from kdmodels.errors import UserError
from kdmodels.experiment import Data
from tests.kdmodels.data.conftest import Photos

DIGITS = load_dataset(Data(source="digits", validation=0.2))
PIXELS = torch.arange(5 * 2 * 3 * 4, dtype=torch.uint8).view(5, 2, 3, 4)
SHAPES = arrays.array_shapes(min_dims=4, max_dims=4, max_side=5)


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


def test_indices_refer_to_the_order_of_the_source() -> None:
    original = load_digits()
    for name, part in (("train", DIGITS.train), ("validation", DIGITS.validation)):
        rows = DIGITS.indices[name]
        assert rows == sorted(rows)
        assert part.images[:, 0].mul(16).numpy() == pytest.approx(original.images[rows])
        assert part.labels.tolist() == original.target[rows].tolist()


def test_a_search_chooses_on_training_examples_of_every_class() -> None:
    kept, held = DIGITS.inner_rows
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(1150))
    assert len(held) == 230
    share = torch.bincount(DIGITS.train.labels[held], minlength=10) / len(held)
    assert (share - 0.1).abs().max() < 0.02


def test_a_search_needs_a_class_of_two_examples() -> None:
    rows = torch.stack([(DIGITS.train.labels == label).nonzero()[0, 0] for label in range(10)])
    few = replace(DIGITS, train=DIGITS.train.take(rows), prints={"train": DIGITS.prints["train"][rows.numpy()]})
    with pytest.raises(UserError, match="tune: no class has 2 labelled training images, so none can be held out"):
        _ = few.inner_rows


def test_the_digest_depends_on_the_content() -> None:
    assert load_dataset(Data(source="digits", validation=0.2)).digest == DIGITS.digest
    assert load_dataset(Data(source="digits", validation=0.3)).digest != DIGITS.digest


def test_the_digests_of_a_source_never_change() -> None:
    """Other digests would train every run of every user again."""
    assert (DIGITS.digest[:16], DIGITS.training_digest[:16]) == ("0f9c1c93957d704a", "7b0bcb9faafcaa15")


def test_the_test_split_has_no_attribute() -> None:
    with pytest.raises(RuntimeError, match="must not read the test split"):
        DIGITS.test  # noqa: B018 - reading the attribute raises


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_a_share_that_leaves_a_class_empty_is_reported(share: float) -> None:
    with pytest.raises(UserError, match=r"data\.validation: 0\.\d+ of 1438 examples"):
        load_dataset(Data(source="digits", validation=share))


def test_a_subset_leaves_one_example_of_each_class() -> None:
    data = load_dataset(Data(source="digits", subset=1428), None)
    assert len(data.train) + len(data.validation) == 1428
    for wrong in (9, 1429):
        with pytest.raises(UserError, match=rf"data\.subset: {wrong} is out of range\. Allowed: 10 to 1428"):
            load_dataset(Data(source="digits", subset=wrong), None)


@given(arrays.arrays(np.uint8, SHAPES) | arrays.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)))
def test_moments_match_numpy_for_any_size_of_chunks(pixels: np.ndarray) -> None:
    part = Split(torch.from_numpy(pixels), torch.zeros(len(pixels)), top=255 if pixels.dtype == np.uint8 else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "CHUNK_VALUES", 2 * pixels[0].size)
        mean, std = moments(part)
    values = pixels.astype(np.float64) / part.top
    assert mean == pytest.approx(values.mean(axis=(0, 2, 3)).tolist(), rel=1e-9)
    for deviation, channel in zip(std, values.transpose(1, 0, 2, 3).reshape(pixels.shape[1], -1), strict=True):
        expected = channel.std(ddof=1) if channel.min() < channel.max() else 1.0  # of a constant channel
        assert deviation == pytest.approx(expected, rel=1e-3)


def test_moments_of_some_rows_ignore_the_others() -> None:
    part = Split(PIXELS, torch.zeros(2), top=1, rows=torch.tensor([3, 1]))
    assert moments(part)[0] == [PIXELS[[3, 1], channel].double().mean().item() for channel in (0, 1)]


def test_without_unlabelled_images_no_training_example_is_repeated() -> None:
    assert torch.equal(DIGITS.repeated.images, DIGITS.train.images)
    assert torch.equal(DIGITS.repeated.labels, DIGITS.train.labels)


def test_training_examples_are_repeated_until_they_are_as_many_as_the_images_of_distilled_students(
    photos: Photos,
) -> None:
    folder = photos("cat", "owl", count=30)
    more = photos("more", count=75).joinpath("more").rename(folder.parent / "more")
    data = load_dataset(Data(source=str(folder), transfer={"unlabelled": str(more)}))
    count, total = len(data.train), len(data.distillation_split)
    assert len(data.repeated) == total == count + 75
    whole, rest = divmod(total, count)
    assert rest > 0
    rows = torch.arange(total)
    images, labels = data.repeated.stored(rows), data.repeated.labels
    assert torch.equal(images[: whole * count], data.train.stored(rows[:count]).repeat(whole, 1, 1, 1))
    assert torch.equal(labels[: whole * count], data.train.labels.repeat(whole))
    last = images[whole * count :].flatten(1).unique(dim=0)
    assert len(last) == rest  # each training image at most once more
    # The same images in another order give the same additional images.
    for file in (folder / "cat").iterdir():
        file.rename(file.with_name(f"{99 - int(file.stem)}.png"))
    again = load_dataset(Data(source=str(folder), transfer={"unlabelled": str(more)}))
    assert torch.equal(again.repeated.stored(rows)[whole * count :].flatten(1).unique(dim=0), last)


def test_training_examples_are_left_out_if_distilled_students_learn_from_fewer_images() -> None:
    transfer = {"unlabelled": "rest", "count": 50, "classes": [7]}
    data = load_dataset(Data.model_validate({"source": "digits", "labelled": 100, "transfer": transfer}))
    count = len(data.distillation_split)
    assert 50 < count < 100
    assert len(data.train) == 100
    lowest = np.argsort(data.prints["train"])[:count]
    rows = np.sort(lowest)
    assert torch.equal(data.repeated.images, data.train.images[rows])
    assert torch.equal(data.repeated.labels, data.train.labels[rows])
