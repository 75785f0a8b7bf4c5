"""Every pixel format of image files is read with the right values or refused, and never silently read as black.

The TIFFs are written byte by byte, so that their content does not depend on the library that reads them.
"""

import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdmodels.data import load_dataset
from kdmodels.data.images import decode, find_images, measure, read_images
from kdmodels.errors import UserError
from kdmodels.experiment import Data

GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
SHARE = GREY / 255
FORMATS = {"u": 1, "i": 2, "f": 3}
SHORT, LONG, FLOAT = 3, 4, 11  # type codes of TIFF tags


def tiff(values: np.ndarray, *, order: str = "<", photometric: int | None = None, **more: Any) -> bytes:
    """Return an uncompressed TIFF of values (H, W) or (H, W, C). `more` adds or replaces tags: tag42=(type, value)."""
    height, width, samples = (*values.shape, 1)[:3]
    data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(order))).tobytes()
    if photometric is None:
        photometric = 1 if samples == 1 else 2
    numbers = {  # sorted by tag number
        256: (SHORT, [width]),
        257: (SHORT, [height]),
        258: (SHORT, [8 * values.dtype.itemsize] * samples),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        273: (LONG, [8]),
        277: (SHORT, [samples]),
        278: (SHORT, [height]),
        279: (LONG, [len(data)]),
        339: (SHORT, [FORMATS[values.dtype.kind]] * samples),
    } | {int(name.removeprefix("tag")): about for name, about in more.items()}
    beside, entries = b"", b""
    after = 8 + len(data) + 2 + 12 * len(numbers) + 4
    for tag, (kind, content) in sorted(numbers.items()):
        packed = struct.pack(f"{order}{len(content)}{ {SHORT: 'H', LONG: 'I', FLOAT: 'f'}[kind] }", *content)
        if len(packed) > 4:
            packed, beside = struct.pack(f"{order}I", after + len(beside)), beside + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(content)) + packed.ljust(4, b"\0")
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(numbers)) + entries + bytes(4) + beside


def stated(low: float, high: float) -> dict[str, Any]:
    return {"tag340": (FLOAT, [low]), "tag341": (FLOAT, [high])}


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


READ = {
    "8 bits": tiff(GREY),
    "16 bits": tiff(GREY.astype(np.uint16) * 257),
    "16 bits, the other order": tiff(GREY.astype(np.uint16) * 257, order=">"),
    "16 bits, white is 0": tiff(65535 - GREY.astype(np.uint16) * 257, photometric=0),
    "8 bits, white is 0": tiff(255 - GREY, photometric=0),
    "float, 0 to 1 stated": tiff(SHARE.astype(np.float32), **stated(0, 1)),
    "float, 0 to 255 stated": tiff(GREY.astype(np.float32), **stated(0, 255)),
    "float, -1 to 1 stated": tiff((2 * SHARE - 1).astype(np.float32), **stated(-1, 1)),
    "float, white is 0": tiff((1 - SHARE).astype(np.float32), photometric=0, **stated(0, 1)),
    "float, the other order": tiff(SHARE.astype(np.float32), order=">", **stated(0, 1)),
    "signed 16 bits, stated": tiff((GREY.astype(np.int16) - 100), **stated(-100, 155)),
    "signed 32 bits, stated": tiff(GREY.astype(np.int32) * 1000 - 5, **stated(-5, 254995)),
    "unsigned 32 bits, stated": tiff(GREY.astype(np.uint32) * 16843009, tag340=(LONG, [0]), tag341=(LONG, [2**32 - 1])),
    "16 bits PNG": encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    "16 bits PGM": b"P5 3 2 65535\n" + (GREY.astype(">u2") * 257).astype(">u2").tobytes(),
    "12 bits PGM": b"P5 3 2 4080\n" + (GREY.astype(">u2") * 16).astype(">u2").tobytes(),
    "text PGM": b"P2 3 2 65535\n" + b" ".join(str(value * 257).encode() for value in GREY.ravel().tolist()) + b"\n",
}
REFUSED = {
    "float in 0 to 1": tiff(SHARE.astype(np.float32)),
    "float in 0 to 255": tiff(GREY.astype(np.float32)),
    "float of half its range stated": tiff(SHARE.astype(np.float32), tag341=(FLOAT, [1.0])),
    "float, an empty range": tiff(SHARE.astype(np.float32), **stated(1, 1)),
    "float, an endless range": tiff(SHARE.astype(np.float32), **stated(0, np.inf)),
    "float, a range that is none": tiff(SHARE.astype(np.float32), **stated(np.nan, 1)),
    "float beyond its range": tiff(GREY.astype(np.float32), **stated(0, 254)),
    "float below its range": tiff(GREY.astype(np.float32) - 1, **stated(0, 255)),
    "NaN": tiff(np.array([[0.5, np.nan]], np.float32), **stated(0, 1)),
    "infinite": tiff(np.array([[0.5, np.inf]], np.float32), **stated(0, 1)),
    "64-bit float": tiff(SHARE.astype(np.float64)),
    "signed 8 bits": tiff(GREY.astype(np.int8)),
    "signed 16 bits": tiff(GREY.astype(np.int16)),
    "signed 32 bits": tiff(GREY.astype(np.int32)),
    "signed 32 bits as of 16": tiff(GREY.astype(np.int32) * 257),
    "unsigned 32 bits": tiff(GREY.astype(np.uint32)),
    "unsigned 32 bits, whole range": tiff(GREY.astype(np.uint32) * 16843009),
    "float RGB": tiff(np.dstack([SHARE] * 3).astype(np.float32)),
    "float PFM": b"Pf\n3 2\n-1.0\n" + SHARE.astype("<f4").tobytes(),
}


@pytest.mark.parametrize("kind", READ)
def test_grey_is_scaled_by_the_range_in_the_file(kind: str) -> None:
    assert decode(READ[kind], 1, 2, 3).tolist() == [GREY.tolist()]
    assert decode(READ[kind], 3, 2, 3).tolist() == [GREY.tolist()] * 3
    assert measure(READ[kind])[:2] == (2, 3)


@pytest.mark.parametrize("kind", REFUSED)
def test_pixels_without_a_stated_range_are_refused(kind: str) -> None:
    for channels in (1, 3):
        with pytest.raises(
            (ValueError, OSError),
            match=r"does not state their range|signed 8-bit|has pixels from|is not an image",
        ):
            decode(REFUSED[kind], channels, 2, 3)


def test_twelve_bits_are_scaled_by_4095() -> None:
    """Pillow unpacks 12 bits into 16, which would make them 16 times too dark."""
    pairs = [4095, 0, 2048, 1024]
    packed = bytes(
        byte
        for one, other in zip(pairs[::2], pairs[1::2], strict=True)
        for byte in (one >> 4, (one & 15) << 4 | other >> 8, other & 255)
    )
    content = tiff(np.zeros((1, 4), np.uint16), tag258=(SHORT, [12]))
    content = content[:8] + packed + content[8 + len(packed) :]
    assert decode(content, 1, 1, 4).tolist() == [[[255, 0, 128, 64]]]


@pytest.mark.parametrize(("kind", "samples"), [("RGB", 3), ("CMYK", 4)])
def test_separate_16_bit_planes_are_refused(kind: str, samples: int) -> None:
    """Pillow reads half of their bytes as 8-bit pixels, which gives noise."""
    planes = np.stack([GREY.astype(np.uint16) * 257] * samples)  # (C, H, W)
    content = tiff(
        planes.reshape(2, 3, samples),
        photometric={"RGB": 2, "CMYK": 5}[kind],
        tag273=(LONG, [8 + place * GREY.size * 2 for place in range(samples)]),
        tag279=(LONG, [GREY.size * 2] * samples),
        tag284=(SHORT, [2]),
    )
    with pytest.raises(ValueError, match="stores 16-bit channels as separate planes"):
        decode(content, 3, 2, 3)


def test_separate_8_bit_planes_are_read() -> None:
    planes = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)])  # (C, H, W)
    content = tiff(
        planes.reshape(2, 3, 3),
        tag273=(LONG, [8 + place * GREY.size for place in range(3)]),
        tag279=(LONG, [GREY.size] * 3),
        tag284=(SHORT, [2]),
    )
    assert decode(content, 3, 2, 3).tolist() == planes.tolist()


def test_16_bit_colours_keep_their_levels() -> None:
    colour = np.dstack([GREY, 255 - GREY, np.full_like(GREY, 7)])
    for order in "<>":
        content = tiff(colour.astype(np.uint16) * 257, order=order)
        assert decode(content, 3, 2, 3).tolist() == colour.transpose(2, 0, 1).tolist()


def test_other_pixel_formats_are_converted() -> None:
    black_and_white = Image.fromarray(GREY > 100)
    seen = [((GREY > 100) * 255).tolist()]
    for kind in ("TIFF", "PNG", "BMP", "PPM"):
        assert decode(encoded(black_and_white, kind), 1, 2, 3).tolist() == seen
    palette = Image.fromarray(GREY).convert("RGB").quantize(8)
    index = palette.getpixel((2, 1))  # white
    content = encoded(palette, "PNG", transparency=index)
    assert measure(content)[2] == "P"
    assert decode(content, 1, 2, 3)[0].tolist() == [GREY[0].tolist(), [153, 204, 0]]
    none = np.zeros_like(GREY)
    cmyk = Image.fromarray(np.dstack([255 - GREY, none, none, none]), "CMYK")
    for kind in ("TIFF", "JPEG"):
        red, green, blue = decode(encoded(cmyk, kind, **({"quality": 100} if kind == "JPEG" else {})), 3, 2, 3)
        assert np.abs(red.astype(int) - GREY).max() <= 4
        assert min(green.min(), blue.min()) >= 250
    ycbcr = tiff(np.dstack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)]), photometric=6)
    assert measure(ycbcr)[2] == "YCbCr"
    assert decode(ycbcr, 3, 2, 3).tolist() == [GREY.tolist()] * 3
    lab = tiff(np.array([[[137, 0, 0], [255, 0, 0], [0, 0, 0]]], np.uint8), photometric=8)  # L* 53.7 is 128 in sRGB
    assert measure(lab)[2] == "LAB"
    for channels in (1, 3):
        assert np.abs(decode(lab, channels, 1, 3).astype(int) - [128, 255, 0]).max() <= 1
    grey_and_alpha = np.dstack([GREY, np.full_like(GREY, 255)])
    assert decode(encoded(Image.fromarray(grey_and_alpha, "LA"), "TIFF"), 1, 2, 3).tolist() == [GREY.tolist()]
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    several = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert decode(several, 1, 2, 3).tolist() == [GREY.tolist()]


def test_the_orientation_of_16_bit_grey_is_applied() -> None:
    for values, more in ((GREY.astype(np.uint16) * 257, {}), (SHARE.astype(np.float32), stated(0, 1))):
        content = tiff(values, tag274=(SHORT, [6]), **more)
        assert measure(content)[:2] == (3, 2)
        assert decode(content, 1, 3, 2).tolist() == [np.rot90(GREY, -1).tolist()]


def test_transparent_16_bit_grey_is_composited_onto_black() -> None:
    content = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG", transparency=65535)
    assert decode(content, 1, 2, 3)[0].tolist() == [GREY[0].tolist(), [153, 204, 0]]


def test_training_and_prediction_name_the_unreadable_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path = tmp_path_factory.mktemp("pool")
    for number in range(20):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        content = READ["16 bits"] if number else REFUSED["float in 0 to 1"]
        (tmp_path / str(number % 2) / f"{number}.tif").write_bytes(content)
    message = r"0/0\.tif \(has float pixels and does not state their range\. Allowed: .*SMaxSampleValue\)"
    with pytest.raises(UserError, match=f"1 images can't be read: {message}"):
        load_dataset(Data(source=str(tmp_path)))
    dataset = load_dataset(Data(source=str(tmp_path), skip=True))
    assert (len(dataset.skipped), dataset.train.images.shape[1]) == (1, 1)
    with pytest.raises(UserError, match=rf"can't be read as images: .*{message}\. Allowed: "):
        read_images(find_images([tmp_path]), (1, 2, 3))
    (tmp_path / "0" / "0.tif").unlink()
    images = read_images(find_images([tmp_path]), (1, 2, 3))
    assert np.array_equal(images[0, 0], GREY / np.float32(255))


def test_float_images_give_one_channel(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("floats")
    for number in range(20):
        (folder / str(number % 2)).mkdir(exist_ok=True)
        content = tiff((SHARE * (number + 1) / 20).astype(np.float32), **stated(0, 1))
        (folder / str(number % 2) / f"{number}.tif").write_bytes(content)
    assert load_dataset(Data(source=str(folder))).train.images.shape[1:] == (1, 2, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.full((20, 2, 2), 1.5),
            "has values from 1.5 to 1.5. Allowed: integers from 0 to 255, or floats from 0 to 1",
        ),
        (np.full((20, 2, 2), 128.0), "has values from 128.0 to 128.0"),
        (np.full((20, 2, 2), np.nan), "has values from nan to nan"),
        (np.full((20, 2, 2), np.inf, np.float16), "has values from inf to inf"),
        (np.full((20, 2, 2), -1), "has values from -1 to -1"),
        (np.full((20, 2, 2), 256, np.uint16), "has values from 256 to 256"),
        (np.full((20, 2, 2), 1j), "has the type complex128. Allowed: integers or floats"),
        (np.full((20, 2, 2), True), "has the type bool. Allowed: integers or floats"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_arrays_out_of_range_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "x.npz", images=values, labels=np.arange(20) % 2)
    with pytest.raises(UserError, match=re.escape(message)):
        load_dataset(Data(source=str(tmp_path / "x.npz")))
    if values.dtype.kind not in "cb":
        rows = [
            {"image": image.ravel().tolist(), "shape": [2, 2, 1], "label": number % 2}
            for number, image in enumerate(values.astype(np.float64 if values.dtype.kind == "f" else values.dtype))
        ]
        pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
        with pytest.raises(UserError, match=f"{re.escape(message)}|image has the type object"):
            load_dataset(Data(source=str(tmp_path / "x.parquet")))
