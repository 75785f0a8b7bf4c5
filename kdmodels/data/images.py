"""Image files as arrays: one decoding for training and for prediction."""

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from kdmodels.data.files import listed, open_files, printable, read_file, require_regular
from kdmodels.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # no other decoder is let near a file
MODES = {1: "L", 3: "RGB"}
GREY = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16L", "I;16B")
DEEP = ("F", "I", "I;16", "I;16L", "I;16B")  # more than 8 bits a pixel
RANGE_TAGS = (340, 341)  # of a TIFF: SMinSampleValue and SMaxSampleValue
BITS, PHOTOMETRIC, SAMPLE_FORMAT, UNSIGNED, SIGNED = 258, 262, 339, 1, 2
PLANAR, APART = 284, 2  # one plane per channel
LARGEST_IMAGE = 89_478_485  # pixels: where Pillow begins to warn of a decompression bomb
TURNED = (5, 6, 7, 8)  # EXIF orientations whose height is the stored width


def measure(content: bytes) -> tuple[int, int, str]:
    """Height, width and Pillow's mode of an encoded image, from its header, as it is to be seen.

    Raises:
        Exception: whatever a decoder says of bytes that it can't read.
    """
    with _opened(content) as image:
        turned = "exif" in image.info and image.getexif().get(0x0112) in TURNED  # a TIFF's size is turned already
        height, width = (image.width, image.height) if turned else (image.height, image.width)
        return height, width, image.mode


def decode(content: bytes, channels: int, height: int, width: int) -> np.ndarray:
    """Return an encoded image as (C, H, W) uint8.

    The image is turned as its EXIF orientation says, scaled to 8 bits, laid onto black where it is transparent, and
    resized by Pillow's bilinear filter, which is antialiased. Of an animation or a TIFF of many pages, the first image
    is taken.

    Raises:
        Exception: whatever a decoder says of bytes that it can't read; pixels of floats, of 32 bits or with a sign
            whose range the file does not state.
    """
    with _opened(content) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in DEEP:
            image = _shallow(image)
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image.convert("RGBA"))
        if image.mode == "LAB":  # Pillow makes no grey of it
            image = image.convert("RGB")
        image = image.convert(MODES[channels])
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _opened(content: bytes) -> Image.Image:
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:  # whose own words name an address in memory
        raise ValueError("no image of a known format") from error
    if image.width * image.height > LARGEST_IMAGE:
        raise ValueError(f"{image.width}x{image.height} are more than {LARGEST_IMAGE} pixels")
    if image.mode in DEEP:
        _sample_range(image)  # before anything is decoded
    elif SIGNED in _tags(image).get(SAMPLE_FORMAT, ()):
        raise ValueError("its pixels are 8 bits with a sign; allowed: 8 or 16 bits without a sign")  # Pillow ignores it
    elif _has_deep_planes(image):
        raise ValueError("its channels of 16 bits are stored as separate planes; allowed: interleaved or compressed")
    return image


def _has_deep_planes(image: Image.Image) -> bool:
    """Return whether it is an uncompressed TIFF of such planes: Pillow reads half their bytes, as 8-bit pixels."""
    tags = _tags(image)
    is_raw = image.info.get("compression") == "raw"  # libtiff decodes the others, and does it right
    return is_raw and tags.get(PLANAR) == APART and max(tags.get(BITS, (1,))) > 8


def _shallow(image: Image.Image) -> Image.Image:
    """Return an image of more than 8 bits a pixel as grey of 8, scaled by the range that its file states."""
    low, high = _sample_range(image)
    values, tags = np.asarray(image), _tags(image)
    if image.format == "TIFF" and image.mode == "I" and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED:
        values = values.view(np.uint32)  # Pillow has no mode for these
    if not (values.min() >= low and values.max() <= high):  # nor NaN
        raise ValueError(f"has pixels from {values.min()} to {values.max()}, and says {low:g} to {high:g}")
    grey = np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:  # white is 0: Pillow heeds that for 8 bits alone
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 0
    return Image.fromarray(grey)


def _sample_range(image: Image.Image) -> tuple[float, float]:
    """Return the values that stand for black and white, from the header.

    Raises:
        ValueError: the file does not state them.
    """
    tags = _tags(image)
    if image.mode.startswith("I;16"):
        return 0, 2 ** tags.get(BITS, (16,))[0] - 1
    if image.format == "PPM" and image.mode == "I":
        return 0, 65535  # to which Pillow scales it
    low, high = (_number(tags.get(tag)) for tag in RANGE_TAGS)
    if low is None or high is None or not -math.inf < low < high < math.inf:
        kind = "floats" if image.mode == "F" else "32 bits, or with a sign,"
        raise ValueError(
            f"its pixels are {kind} and it states no range of them; allowed: 8 or 16 bits without a sign, or a TIFF "
            "with SMinSampleValue and SMaxSampleValue"
        )
    return low, high


def _tags(image: Image.Image) -> Mapping[int, Any]:
    return image.tag_v2 if isinstance(image, TiffImageFile) else {}


def _number(value: object) -> float | None:
    """Return a tag's number, which Pillow gives alone or in a tuple."""
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, int | float) else None


def find_images(paths: list[Path]) -> list[Path]:
    """Return the files named, and the images in the folders named, in order of name.

    Of a folder, only regular files are taken, also through links, as where data are read.

    Raises:
        UserError: a path does not exist or is a pipe or device; or a folder holds no image or can't be read.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            with open_files(path) as content:
                found = sorted(path / name for name in content.stamps if name.lower().endswith(SUFFIXES))
            if not found:
                raise UserError(f"{path}: no image in this folder; allowed: {', '.join(SUFFIXES)}")
            files += found
        elif path.exists():
            require_regular(path)
            files.append(path)
        else:
            raise UserError(f"{printable(str(path))}: no such file or folder")
    return files


def read_images(files: list[Path], input_shape: tuple[int, int, int]) -> np.ndarray:
    """The files as (N, C, H, W) float32 in [0, 1], decoded as those that are trained on.

    Raises:
        UserError: a file can't be read as an image; the line lists every such file.
    """
    if input_shape[0] not in MODES:
        raise UserError(f"a model of {input_shape[0]} channels can't read image files; allowed: {sorted(MODES)}")
    batch = np.empty((len(files), *input_shape), dtype=np.float32)
    unreadable: list[str] = []
    for row, file in zip(batch, files, strict=True):
        try:
            row[:] = decode(read_file(file), *input_shape) / np.float32(255)
        except Exception as error:  # a decoder of foreign bytes may raise anything
            unreadable.append(f"{file} ({error})")
    if unreadable:
        raise UserError(f"not readable as images: {listed(unreadable)}")
    return batch
