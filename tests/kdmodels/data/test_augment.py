"""Augmentation: operations match independent implementations, and are pure functions of seed, image and view."""

import subprocess
import sys
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as vision
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import beta, chisquare, kstest
from torch import Tensor

from kdmodels.data import Split
from kdmodels.data.augment import Augmentation, View, transformations
from kdmodels.experiment import Data
from kdmodels.randomness import generator_for, uniforms

EVERYTHING: list[dict[str, Any]] = [{"jitter": 2}, {"crop": 3}, {"flip": True}, {"randaugment": {"operations": 3}}]


def split(examples: int, channels: int = 3, height: int = 8, width: int = 6) -> Split:
    generator = generator_for(0, "pixels")
    pixels = torch.randint(256, (examples, channels, height, width), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(10, (examples,), generator=generator), top=255)


def view(of: Split, *operations: dict[str, Any], seed: int = 0, number: int = 0) -> View:
    return View(of, Data.model_validate({"source": "digits", "augment": list(operations)}).augment, seed, number)


def shown(of: Split, *operations: dict[str, Any], **which: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all images before and after augmentation."""
    return of.images.numpy(), view(of, *operations, **which).batch(torch.arange(len(of))).numpy()


@pytest.mark.parametrize("name", ["jitter", "crop"])
def test_translations_are_uniformly_distributed(name: str) -> None:
    """Each image must equal one of the 25 windows of the image padded with black."""
    before, after = shown(split(2000), {name: 2})
    counts = np.zeros((5, 5))
    for image, moved in zip(before, after, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        (offset,) = [
            (down, across)
            for down in range(5)
            for across in range(5)
            if np.array_equal(moved, padded[:, down : down + 8, across : across + 6])
        ]
        counts[offset] += 1
    assert chisquare(counts.ravel()).pvalue > 0.01


def test_an_image_translated_out_of_the_frame_is_black() -> None:
    _, after = shown(split(50, height=2, width=2), {"jitter": 500})
    assert after.max(axis=(1, 2, 3)).min() == 0


def test_flip_mirrors_half_of_the_images() -> None:
    before, after = shown(split(1000), {"flip": True})
    mirrored = [np.array_equal(image, flipped[:, :, ::-1]) for image, flipped in zip(before, after, strict=True)]
    kept = [np.array_equal(image, flipped) for image, flipped in zip(before, after, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 430 < sum(mirrored) < 570


def test_operations_are_applied_in_the_files_order() -> None:
    """Translate, then mirror: black pixels added on the right end up on the left."""
    whole = split(200)
    _, moved = shown(whole, {"jitter": 2})
    _, both = shown(whole, {"jitter": 2}, {"flip": True})
    mirrored = moved[:, :, :, ::-1]
    which = [np.array_equal(image, other) for image, other in zip(both, mirrored, strict=True)]
    assert np.array_equal(both[which], mirrored[which])
    assert np.array_equal(both[~np.array(which)], moved[~np.array(which)])
    assert 60 < sum(which) < 140


def coded(examples: int) -> Split:
    """Return a split in which all pixels and the label of image i are i."""
    numbers = torch.arange(examples)
    return Split(numbers.view(-1, 1, 1, 1).expand(-1, 1, 6, 8), numbers, top=1)


def test_mixup_is_the_weighted_mean_of_two_images() -> None:
    whole = coded(20_000)
    rows = torch.arange(len(whole))
    mixing = view(whole, {"mixup": 0.4})
    images, mixed = mixing.batch(rows), mixing.mixed(rows)
    expected = mixed["share"] * rows + (1 - mixed["share"]) * mixed["labels"]
    assert torch.equal(images, expected.view(-1, 1, 1, 1).expand_as(images))
    assert kstest(mixed["share"].numpy(), beta(0.4, 0.4).cdf).pvalue > 0.01
    assert chisquare(torch.histc(mixed["labels"].float(), 100).numpy()).pvalue > 0.01  # any image may be the partner


def test_cutmix_replaces_a_rectangle_and_reports_its_area() -> None:
    whole = coded(3000)
    rows = torch.arange(len(whole))
    mixing = view(whole, {"cutmix": 1.0})
    images, mixed = mixing.batch(rows), mixing.mixed(rows)
    sizes = []
    for row, image, partner, share in zip(rows, images[:, 0], mixed["labels"], mixed["share"], strict=True):
        foreign = image == partner
        assert torch.equal(image[~foreign], row.expand_as(image[~foreign]).float())
        if row == partner:
            continue
        assert share.item() == pytest.approx(1 - foreign.float().mean().item(), abs=1e-6)
        down, across = foreign.any(dim=1), foreign.any(dim=0)
        assert torch.equal(foreign, down.unsqueeze(1) & across.unsqueeze(0))
        for side in (down, across):  # one contiguous interval
            assert side.int().diff().clamp(min=0).sum() + side[0] <= 1
        sizes.append((int(down.sum()), int(across.sum())))
    assert {down for down, _ in sizes} == {0, 1, 2, 3, 4}
    assert {across for _, across in sizes} == {0, 1, 2, 3, 4, 5, 6}


def test_cutmix_rectangles_match_the_papers_loop() -> None:
    whole = split(400, height=9, width=14)
    rows = torch.arange(400)
    mask = view(whole, {"cutmix": 0.7}, seed=5, number=2).mask(rows)
    assert mask is not None
    for row, kept in zip(rows, mask[:, 0], strict=True):
        lam, down, across = uniforms(row.view(1), 3, 5, "cutmix", 2)[:, 0].tolist()
        side = np.sqrt(1 - beta.ppf(lam, 0.7, 0.7))
        height, width = int(9 * side), int(14 * side)
        y, x = int(9 * down), int(14 * across)
        expected = np.ones((9, 14))
        expected[max(y - height // 2, 0) : y + height // 2, max(x - width // 2, 0) : x + width // 2] = 0
        assert np.array_equal(kept.numpy(), expected)


def test_partners_are_augmented_too() -> None:
    """The partner is translated as it is translated where it is shown itself."""
    whole = split(300)
    rows = torch.arange(300)
    alone = view(whole, {"jitter": 2}).batch(rows)
    both = view(whole, {"jitter": 2}, {"cutmix": 1.0})
    mask, partners = both.mask(rows), both.partners(rows)
    assert mask is not None
    assert torch.equal(both.batch(rows), torch.where(mask == 1, alone, alone[partners]))


def test_a_view_without_mixing_reports_no_mixed_labels() -> None:
    assert view(split(5), {"jitter": 1}).mixed(torch.arange(5)) == {}


@given(
    operations=st.lists(st.sampled_from(EVERYTHING), unique_by=str, max_size=4),
    mixing=st.sampled_from([[], [{"mixup": 0.2}], [{"cutmix": 1.0}]]),
    channels=st.sampled_from([1, 2, 3]),
    rows=st.lists(st.integers(0, 29), min_size=1, max_size=40),
    number=st.integers(0, 5),
)
def test_a_view_of_an_image_does_not_depend_on_its_batch(
    operations: list[dict[str, Any]], mixing: list[dict[str, Any]], channels: int, rows: list[int], number: int
) -> None:
    whole = split(30, channels)
    one = view(whole, *operations, *mixing, seed=3, number=number)
    alone = [one.batch(torch.tensor([row]))[0] for row in rows]
    together = one.batch(torch.tensor(rows))
    assert torch.equal(together, torch.stack(alone))
    assert torch.equal(one.batch(torch.tensor([rows, rows[::-1]]))[1], together.flip(0))
    assert together.min() >= 0
    assert together.max() <= 1
    assert together.dtype == torch.float32


@pytest.mark.parametrize("operation", [*EVERYTHING, {"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
def test_seed_view_and_image_number_each_change_the_result(operation: dict[str, Any]) -> None:
    same = split(1).pixels.expand(40, -1, -1, -1)
    whole = Split(torch.cat([same, split(200).pixels[100:140]]), torch.zeros(80, dtype=torch.int64), top=255)
    rows = torch.arange(40)
    first = view(whole, operation).batch(rows)
    assert torch.equal(view(whole, operation).batch(rows), first)
    assert not torch.equal(view(whole, operation, seed=1).batch(rows), first)
    assert not torch.equal(view(whole, operation, number=1).batch(rows), first)
    assert not torch.equal(first, first[:1].expand_as(first))


REPLAY = """
import sys, torch
from hashlib import sha256
from kdmodels.data import Split
from kdmodels.data.augment import View
from kdmodels.experiment import Data
torch.set_num_threads(2)
torch.manual_seed(5)
data = Data.model_validate_json(sys.argv[1])
pixels = (torch.arange(64 * 3 * 8 * 6) % 251).to(torch.uint8).view(64, 3, 8, 6)
view = View(Split(pixels, torch.zeros(64, dtype=torch.int64), 255), data.augment, 2, 7)
images = torch.cat([view.batch(rows) for rows in torch.arange(64).split(9)])
print(sha256(images.numpy().tobytes()).hexdigest())
"""


def test_another_process_computes_the_same_bits() -> None:
    pixels = (torch.arange(64 * 3 * 8 * 6) % 251).to(torch.uint8).view(64, 3, 8, 6)
    data = Data.model_validate({"source": "digits", "augment": [*EVERYTHING, {"mixup": 0.3}]})
    images = View(Split(pixels, torch.zeros(64, dtype=torch.int64), 255), data.augment, 2, 7).batch(torch.arange(64))
    process = subprocess.run(
        [sys.executable, "-c", REPLAY, data.model_dump_json()], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == sha256(images.numpy().tobytes()).hexdigest()


def test_epochs_cycle_through_the_views_or_have_one_each() -> None:
    whole = split(3)
    (flip,) = view(whole, {"flip": True}).operations
    assert [Augmentation([flip], 4, 3).view(whole, epoch).number for epoch in range(1, 8)] == [0, 1, 2, 0, 1, 2, 0]
    assert [Augmentation([flip], 4).view(whole, epoch).number for epoch in range(1, 5)] == [0, 1, 2, 3]
    assert [Augmentation().view(whole, epoch).number for epoch in range(1, 5)] == [0, 0, 0, 0]
    assert torch.equal(Augmentation().view(whole, 2).batch(torch.arange(3)), whole.images)


PHOTOS = torch.rand(4, 3, 15, 15, generator=generator_for(1, "photos"))
UP, DOWN = torch.ones(4, 1, 1), -torch.ones(4, 1, 1)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sign", [UP, DOWN], ids=["up", "down"])
def test_colour_operations_match_torchvision(strength: float, sign: Tensor) -> None:
    *_, brightness, contrast, saturation, posterize, solarize = transformations(3, strength)
    photos = (PHOTOS * 255).round() / 255
    factor = 1 + sign[0].item() * 0.9 * strength
    bits = 8 - round(4 * strength)
    eight = (photos * 255).round().to(torch.uint8)
    for operation, expected in (
        (brightness, vision.adjust_brightness(photos, factor)),
        (contrast, vision.adjust_contrast(photos, factor)),
        (saturation, vision.adjust_saturation(photos, factor)),
        (posterize, vision.posterize(eight, bits).float() / 255),
        (solarize, vision.solarize(photos, 1 - strength)),
    ):
        assert torch.allclose(operation(photos, sign), expected, atol=2e-3 if operation is contrast else 2e-4)


def test_geometric_operations_match_scipy() -> None:
    """Compare with scipy's nearest-neighbour resampling about the centre, with explicit matrices."""
    _, shear_x, shear_y, move_x, move_y, rotate, *_ = transformations(3, 0.7)
    c, s = np.cos(0.7 * np.pi / 6), np.sin(0.7 * np.pi / 6)
    distance = int(150 / 331 * 0.7 * 15)
    for sign in (1, -1):
        for operation, matrix, move in (  # rows, then columns
            (shear_x, [[1, 0], [sign * 0.21, 1]], (0, 0)),
            (shear_y, [[1, sign * 0.21], [0, 1]], (0, 0)),
            (move_x, np.eye(2), (0, sign * distance)),
            (move_y, np.eye(2), (sign * distance, 0)),
            (rotate, [[c, -sign * s], [sign * s, c]], (0, 0)),
        ):
            centre = np.array([7.0, 7.0])
            offset = centre - np.asarray(matrix) @ centre + move
            after = operation(PHOTOS, sign * UP)
            for photo, changed in zip(PHOTOS.flatten(0, 1), after.flatten(0, 1), strict=True):
                expected = ndimage.affine_transform(photo.numpy(), matrix, offset, order=0, mode="grid-constant")
                assert np.array_equal(changed.numpy(), expected)


def test_randaugment_draws_no_saturation_for_grey_images() -> None:
    assert len(transformations(1, 0.3)) == len(transformations(3, 0.3)) - 1


def test_randaugment_draws_operations_uniformly() -> None:
    """Count which of the 11 operations, in one of two directions, explains each result for a single image."""
    whole = Split(split(1).pixels.expand(6000, -1, -1, -1), torch.zeros(6000, dtype=torch.int64), top=255)
    _, after = shown(whole, {"randaugment": {"operations": 1, "magnitude": 24}})
    kinds = transformations(3, 0.8)
    image = whole.images[:1]
    results = [[kind(image, sign[:1]).numpy()[0].tobytes() for sign in (UP, DOWN)] for kind in kinds]
    counts = [sum(row.tobytes() in result for row in after) for result in results]
    assert sum(counts) == 6000
    assert chisquare(counts).pvalue > 0.01
