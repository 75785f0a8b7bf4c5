"""Decoding many images: one array on disk, fingerprints, unreadable images and notes."""

import io
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kdmodels.data.decoding import Encoded, fingerprints, read_decoded, skipped, write_arrays, write_decoded
from kdmodels.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3), dtype=np.uint8)  # (N, H, W, C)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


CONTENTS = {str(number): png(pixels) for number, pixels in enumerate(PIXELS)}


def test_images_are_decoded_in_order_with_progress(tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    images = Encoded(list(CONTENTS), CONTENTS.__getitem__, size=None)
    write_decoded(tmp_path, images, lambda done, total: progress.append((done, total)))
    decoded = read_decoded(tmp_path)
    assert np.array_equal(decoded.pixels, PIXELS.transpose(0, 3, 1, 2))
    assert np.array_equal(decoded.prints, fingerprints(decoded.pixels))
    assert (decoded.unreadable, decoded.notes, decoded.top) == ({}, [], 255)
    assert progress[-1] == (8, 8)


def test_the_size_is_the_most_common_one_of_the_typical_images(tmp_path: Path) -> None:
    small = {f"small {number}": png(PIXELS[number, :2]) for number in range(3)}
    contents = CONTENTS | small
    images = Encoded(list(contents), contents.__getitem__, size=None, typical=list(small))
    write_decoded(tmp_path, images, lambda done, total: None)
    decoded = read_decoded(tmp_path)
    assert decoded.pixels.shape == (7, 3, 2, 5)
    assert decoded.notes == ["4 of 7 images resized to 2x5"]


def test_unreadable_images_are_reported_and_leave_no_gap(tmp_path: Path) -> None:
    contents = CONTENTS | {"1": b"nothing", "3": CONTENTS["3"][:-30]}
    write_decoded(tmp_path, Encoded(list(contents), contents.__getitem__, size=None), lambda done, total: None)
    decoded = read_decoded(tmp_path)
    assert np.array_equal(decoded.pixels, PIXELS[[0, 2]].transpose(0, 3, 1, 2))
    assert list(decoded.unreadable) == ["1", "3"]
    assert decoded.notes == ["2 unreadable images are left out"]
    assert skipped(decoded, Path("photos"), skip=True)[0] == "1 (is not an image in a known format)"
    with pytest.raises(UserError, match=r"^photos: 2 images can't be read: 1 \(.*Allowed: readable images"):
        skipped(decoded, Path("photos"), skip=False)


def test_a_full_disk_is_reported_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(UserError, match=r"the images at 3x5 need 0\.0 GB, but only 0\.0 GB are free"):
        write_decoded(tmp_path, Encoded(list(CONTENTS), CONTENTS.__getitem__, None), lambda done, total: None)
    assert list(tmp_path.iterdir()) == []


def test_chunks_of_arrays_are_written_as_one_array(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((7, 1, 2, 2), dtype=np.float32)
    write_arrays(tmp_path, iter(np.array_split(images, 3)))
    decoded = read_decoded(tmp_path)
    assert np.array_equal(decoded.pixels, images)
    assert decoded.top == 1
    with pytest.raises(UserError, match=r"the first 7 images are float32 \(1, 2, 2\), got float32 \(1, 2, 3\)"):
        write_arrays(tmp_path, iter([images, np.zeros((1, 1, 2, 3), np.float32)]))


def test_fingerprints_differ_exactly_when_pixels_do() -> None:
    images = np.concatenate([PIXELS, PIXELS[:1]])
    prints = fingerprints(images)
    assert (prints.shape, prints.dtype) == ((5, 2), np.uint64)
    assert np.array_equal(prints[0], prints[4])
    assert len(np.unique(prints, axis=0)) == 4
