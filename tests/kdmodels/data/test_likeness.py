"""Copies that were saved again are found, and distinct images are not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from kdmodels.data import load_dataset
from kdmodels.data.likeness import descriptors, look_alike
from kdmodels.data.split import Split
from kdmodels.experiment import Data


def photos(count: int, seed: int, size: int = 48) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 with smooth coloured shapes and some grain, like photographs."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    large = np.stack(
        [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in coarse]
    )
    return np.clip(large + generator.normal(0, 4, large.shape), 0, 255).astype(np.uint8)


def split(images: np.ndarray) -> Split:
    return Split(
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.zeros(len(images), dtype=torch.int64), 255
    )


def saved_again(images: np.ndarray, **options: object) -> np.ndarray:
    """Return images after encoding and decoding."""
    decoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, **options)
        decoded.append(np.asarray(Image.open(io.BytesIO(file.getvalue()))))
    return np.stack(decoded)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: np.clip(images.astype(int) + 1, 0, 255).astype(np.uint8),
        lambda images: images ^ (np.arange(images[0].size).reshape(images[0].shape) == 77).astype(np.uint8),
        lambda images: saved_again(images, format="PNG"),
        lambda images: saved_again(images, format="JPEG", quality=90),
        lambda images: saved_again(images, format="JPEG", quality=75),
        lambda images: saved_again(images, format="WEBP", quality=80),
    ],
    ids=["one level brighter", "one value by one level", "PNG", "JPEG 90", "JPEG 75", "WebP 80"],
)
def test_a_slightly_changed_copy_is_found(change) -> None:  # type: ignore[no-untyped-def]
    images, others = photos(100, seed=0), photos(100, seed=1)
    known = descriptors([split(others), split(images)])
    assert known.shape == (200, 64)
    assert look_alike(descriptors([split(change(images))]), known).all()


def test_distinct_images_are_not_copies() -> None:
    assert not look_alike(descriptors([split(photos(200, seed=0))]), descriptors([split(photos(200, seed=1))])).any()


def test_distinct_low_contrast_images_are_not_copies() -> None:
    """Such images, for example of material under a microscope, differ by only a few grey levels."""
    generator = np.random.default_rng(0)
    spots = generator.normal(0, 6, (2, 100, 8, 8)).repeat(6, axis=2).repeat(6, axis=3)
    first, second = (np.clip(128 + each, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=3) for each in spots)
    known = descriptors([split(first)])
    assert not look_alike(descriptors([split(second)]), known).any()
    assert look_alike(descriptors([split(first + 1)]), known).all()


def scene(count: int, seed: int) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 of parts under a fixed camera, with different grain, light and small defects."""
    generator = np.random.default_rng(seed)
    images = photos(1, seed=99).astype(float) + generator.normal(0, 4, (count, 48, 48, 3))
    images += generator.normal(0, 1, (count, 1, 1, 1))
    for image, (row, column) in zip(images[::2], generator.integers(0, 42, (count, 2)), strict=False):
        image[row : row + 6, column : column + 6] += 60
    return np.clip(images, 0, 255).astype(np.uint8)


def test_distinct_images_of_one_scene_are_not_copies() -> None:
    known = scene(600, seed=0)
    assert not look_alike(descriptors([split(scene(300, seed=1))]), descriptors([split(known)])).any()
    assert look_alike(descriptors([split(known[:100])]), descriptors([split(known)])).all()


def test_copies_of_an_image_known_in_several_versions_are_found() -> None:
    images = photos(50, seed=0) // 2 + 40
    known = descriptors([split(images + np.uint8(level)) for level in range(10)])
    assert look_alike(descriptors([split(saved_again(images + np.uint8(4), format="JPEG", quality=90))]), known).all()


def test_scanned_digits_in_train_and_test_are_not_copies() -> None:
    data = load_dataset(Data(source="digits"))
    assert not look_alike(descriptors([data.read_test()]), descriptors([data.train, data.validation])).any()


def test_cells_are_area_means_for_any_image_size() -> None:
    """With 12 pixels and 8 cells, a cell covers one pixel and half of its neighbour."""
    ramp = np.tile(np.arange(12, dtype=np.uint8)[:, None, None] * 12, (1, 12, 3))[None]
    cells = descriptors([split(ramp)]).reshape(8, 8)
    expected = [
        round(12 * (a * 1 + b * 0.5) / 1.5)
        for a, b in [(0, 1), (2, 1), (3, 4), (5, 4), (6, 7), (8, 7), (9, 10), (11, 10)]
    ]
    assert cells.tolist() == [expected] * 8
