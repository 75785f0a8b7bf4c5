"""Decoding one image file: every stored form gives the same kind of array."""

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kdmodels.data.images import decode, find_images, measure, read_images
from kdmodels.errors import UserError

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOUR = np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 7)])  # (C, H, W)


def encoded(image: Image.Image | np.ndarray, kind: str = "png", **more: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **more)
    return stream.getvalue()


def test_8_bit_grey_and_colour_are_kept() -> None:
    assert decode(encoded(RAMP), 1, 4, 6).tolist() == [RAMP.tolist()]
    assert decode(encoded(COLOUR.transpose(1, 2, 0)), 3, 4, 6).tolist() == COLOUR.tolist()
    assert decode(encoded(RAMP), 3, 4, 6).tolist() == [RAMP.tolist()] * 3


def test_16_bits_are_scaled_instead_of_truncated() -> None:
    deep = RAMP.astype(np.uint16) * 257
    assert decode(encoded(deep), 1, 4, 6).tolist() == [RAMP.tolist()]
    assert measure(encoded(deep)) == (4, 6, "I;16")


def test_transparent_pixels_are_composited_onto_black() -> None:
    half = np.dstack([np.full((2, 2, 3), 200, np.uint8), np.array([[255, 0], [128, 255]], np.uint8)])
    assert decode(encoded(half), 1, 2, 2).tolist() == [[[200, 0], [100, 200]]]
    grey = np.dstack([np.full((1, 2), 200, np.uint8), np.array([[255, 0]], np.uint8)])
    assert decode(encoded(Image.fromarray(grey, "LA")), 1, 1, 2).tolist() == [[[200, 0]]]


def test_palettes_and_1_bit_images_are_converted() -> None:
    palette = Image.fromarray(RAMP).convert("RGB").quantize(32)
    assert measure(encoded(palette))[2] == "P"
    assert decode(encoded(palette), 1, 4, 6).tolist() == [RAMP.tolist()]
    assert decode(encoded(Image.fromarray(RAMP > 100)), 1, 4, 6).tolist() == [((RAMP > 100) * 255).tolist()]


@pytest.mark.parametrize(("orientation", "seen"), [
    (1, RAMP), (2, RAMP[:, ::-1]), (3, RAMP[::-1, ::-1]), (4, RAMP[::-1]),
    (5, RAMP.T), (6, np.rot90(RAMP, -1)), (7, RAMP[::-1, ::-1].T), (8, np.rot90(RAMP)),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_the_exif_orientation_is_applied(orientation: int, seen: np.ndarray, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(RAMP, kind, exif=exif)
    assert measure(content) == (*seen.shape, "L")
    assert decode(content, 1, *seen.shape).tolist() == [seen.tolist()]


def test_resizing_is_antialiased() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    small = decode(encoded(board.astype(np.uint8)), 1, 8, 8)
    assert small.shape == (1, 8, 8)
    assert 120 < small.min() <= small.max() < 135


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [10_000, 30_000])  # Pillow warns about the first and refuses the second
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_not_decoded(width: int) -> None:
    with pytest.raises(Exception, match=r"at most 89478485|could be decompression bomb"):
        measure(_png_header(width, 10_000))


def test_only_the_listed_decoders_are_used() -> None:
    """Pillow runs another program for PostScript."""
    with pytest.raises(Exception, match="is not an image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\nshowpage\n", 1, 1, 1)


JPEG = encoded(np.kron(COLOUR.transpose(1, 2, 0), np.ones((4, 4, 1), np.uint8)), "jpeg")


@given(st.integers(0, len(JPEG) - 1), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_give_an_image_of_that_size_or_an_exception(place: int, damage: bytes) -> None:
    content = JPEG[:place] + damage + JPEG[place + len(damage) :]
    image = None
    with contextlib.suppress(Exception):
        image = decode(content, 3, 4, 6)
    assert image is None or (image.shape, image.dtype) == ((3, 4, 6), np.uint8)


def test_a_truncated_image_is_refused() -> None:
    with pytest.raises(OSError, match="truncated"):
        decode(JPEG[:-12], 3, 16, 24)


def test_images_are_converted_to_the_input_of_the_network(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("not an image")
    files = find_images([tmp_path])
    assert [file.name for file in files] == ["a.jpg", "b.png"]
    batch = read_images(files, (1, 8, 8))
    assert batch.shape == (2, 1, 8, 8)
    assert batch.dtype == np.float32
    assert batch[0].max() == 0
    assert batch[1].min() == 1


def test_every_unreadable_image_is_listed(tmp_path: Path) -> None:
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"x\.png.*y\.png"):
        read_images(find_images([tmp_path]), (1, 8, 8))


def test_missing_paths_and_folders_without_images_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        find_images([tmp_path / "missing.png"])
    with pytest.raises(UserError, match="the folder contains no image"):
        find_images([tmp_path])
