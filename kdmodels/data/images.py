"""Image files as arrays: one decoding for training and for prediction."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kdmodels.data.files import listed, open_files, printable, read_file, require_regular
from kdmodels.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # no other decoder is let near a file
MODES = {1: "L", 3: "RGB"}
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B")
DEEP = ("I", "I;16", "I;16L", "I;16B")  # 16 bits a pixel
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
    """An encoded image as (C, H, W) uint8.

    Turned as its EXIF orientation says, 16 bits scaled to 8, what is transparent laid onto black, and resized by
    Pillow's bilinear filter, which is antialiased. Of an animation the first image.

    Raises:
        Exception: whatever a decoder says of bytes that it can't read.
    """
    with _opened(content) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in DEEP:
            image = _shallow(image)
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image.convert("RGBA"))
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
    return image


def _shallow(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("has more than 16 bits a pixel")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


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
        except Exception:  # a decoder of foreign bytes may raise anything
            unreadable.append(str(file))
    if unreadable:
        raise UserError(f"not readable as images: {listed(unreadable)}")
    return batch
