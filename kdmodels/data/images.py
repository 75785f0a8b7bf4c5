"""Decoding of image files. Training and prediction use the same decoder, so a model gets the same pixels in both."""

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from kdmodels.data.files import listed, open_files, printable, read_file, require_regular
from kdmodels.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # the only decoders that are allowed to open a file
MODES = {1: "L", 3: "RGB"}
GREY = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16L", "I;16B")
DEEP = ("F", "I", "I;16", "I;16L", "I;16B")  # modes with more than 8 bits per pixel
RANGE_TAGS = (340, 341)  # TIFF tags SMinSampleValue and SMaxSampleValue
BITS, PHOTOMETRIC, SAMPLE_FORMAT, UNSIGNED, SIGNED = 258, 262, 339, 1, 2  # 3 TIFF tags, 2 values of SAMPLE_FORMAT
PLANAR, APART = 284, 2  # a TIFF tag, and its value if each channel is a separate plane
LARGEST_IMAGE = 89_478_485  # maximum number of pixels; above this number, Pillow warns of a decompression bomb
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def measure(content: bytes) -> tuple[int, int, str]:
    """Return the height, the width and Pillow's mode of an encoded image. Only the header of the image is read.

    The height and the width are those of the image after the EXIF orientation is applied.

    Raises:
        Exception: The decoder can't read the bytes. Any type of exception is possible.
    """
    with _opened(content) as image:
        # Pillow itself applies the orientation to the size of a TIFF.
        is_turned = "exif" in image.info and image.getexif().get(ORIENTATION) in TURNED
        height, width = (image.width, image.height) if is_turned else (image.height, image.width)
        return height, width, image.mode


def decode(content: bytes, channels: int, height: int, width: int) -> np.ndarray:
    """Decode an image to an array (C, H, W) uint8.

    The EXIF orientation is applied, pixels are scaled to 8 bits, and transparent pixels are composited onto black. Then
    the image is resized by Pillow's antialiased bilinear filter. For an animation or a TIFF with several pages, the
    first image is used.

    Args:
        content: The bytes of the image file.
        channels: 1 for a grey image, 3 for an RGB image.
        height: The height of the decoded image.
        width: The width of the decoded image.

    Raises:
        Exception: The decoder can't read the bytes. Any type of exception is possible.
        ValueError: The image has too many pixels, or its pixels can't be scaled to 8 bits. For example, the file holds
            floats and does not state their range.
    """
    with _opened(content) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode in DEEP:
            image = _shallow(image)
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image.convert("RGBA"))
        if image.mode == "LAB":  # Pillow can't convert LAB to grey directly
            image = image.convert("RGB")
        image = image.convert(MODES[channels])
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _opened(content: bytes) -> Image.Image:
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:  # Pillow's message contains a memory address
        raise ValueError("is not an image in a known format") from error
    if image.width * image.height > LARGEST_IMAGE:
        raise ValueError(f"has {image.width}x{image.height} pixels. Allowed: at most {LARGEST_IMAGE}")
    if image.mode in DEEP:
        _sample_range(image)  # raises the error before the pixels are decoded
    elif SIGNED in _numbers(image, SAMPLE_FORMAT):
        raise ValueError("has signed 8-bit pixels. Allowed: unsigned, 8 or 16 bits")  # Pillow ignores the sign
    elif _has_deep_planes(image):
        raise ValueError("stores 16-bit channels as separate planes. Allowed: interleaved or compressed channels")
    return image


def _has_deep_planes(image: Image.Image) -> bool:
    """Return whether an image is an uncompressed TIFF with 16-bit channels in separate planes.

    Pillow decodes such planes incorrectly. It reads only half of the bytes, and treats each byte as an 8-bit pixel.
    """
    is_raw = image.info.get("compression") == "raw"  # libtiff decodes compressed planes correctly
    return is_raw and _numbers(image, PLANAR) == (APART,) and max(_numbers(image, BITS), default=1) > 8


def _shallow(image: Image.Image) -> Image.Image:
    """Convert an image with more than 8 bits per pixel to 8-bit grey.

    The range of pixel values in the file's header is mapped to the range from 0 to 255.

    Raises:
        ValueError: The header states no range, or a pixel is outside of the range.
    """
    low, high = _sample_range(image)
    values = np.asarray(image)
    sample_format = next(iter(_numbers(image, SAMPLE_FORMAT)), UNSIGNED)
    if image.format == "TIFF" and image.mode == "I" and sample_format == UNSIGNED:
        values = values.view(np.uint32)  # Pillow has no unsigned 32-bit mode
    if not (values.min() >= low and values.max() <= high):  # also refuses NaN
        raise ValueError(f"has pixels from {values.min()} to {values.max()}. Its header allows {low:g} to {high:g}")
    grey = np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    if _numbers(image, PHOTOMETRIC) == (0,):  # in this file 0 is white; Pillow handles this only for 8-bit pixels
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 0
    return Image.fromarray(grey)


def _sample_range(image: Image.Image) -> tuple[float, float]:
    """Return the smallest and the largest possible value of a pixel, according to the header of the image.

    Raises:
        ValueError: The header does not state these values.
    """
    if image.mode.startswith("I;16"):
        return 0, 2 ** next(iter(_numbers(image, BITS)), 16) - 1
    if image.format == "PPM" and image.mode == "I":
        return 0, 65535  # Pillow scales a PPM to this range
    low, high = (next(iter(_numbers(image, tag)), None) for tag in RANGE_TAGS)
    if low is None or high is None or not -math.inf < low < high < math.inf:
        kind = "float" if image.mode == "F" else "signed or 32-bit"
        raise ValueError(
            f"has {kind} pixels and does not state their range. Allowed: unsigned pixels of 8 or 16 bits, or a TIFF "
            "with SMinSampleValue and SMaxSampleValue"
        )
    return low, high


def _numbers(image: Image.Image, tag: int) -> tuple[float, ...]:
    """Return the numbers of a TIFF tag.

    The result is empty in three cases: the image is not a TIFF, the tag is missing, or the tag holds values that are
    not numbers.
    """
    value: object = image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None
    values = value if isinstance(value, tuple) else (value,)  # Pillow returns a single number without a tuple
    numbers = tuple(number for number in values if isinstance(number, int | float))
    return numbers if len(numbers) == len(values) else ()


def find_images(paths: list[Path]) -> list[Path]:
    """Return the given files, and the image files in the given folders and their subfolders.

    The image files of a folder are sorted. As in a dataset, hidden files, pipes and devices in a folder are ignored.

    Args:
        paths: Paths of files and folders. The result has the same order.

    Raises:
        UserError: A path does not exist, a path is a pipe or a device, or a folder can't be read or holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            with open_files(path) as content:
                images = sorted(path / name for name in content.stamps if name.lower().endswith(SUFFIXES))
            if not images:
                raise UserError(f"{path}: the folder contains no image. Allowed: {', '.join(SUFFIXES)}")
            files += images
        elif path.exists():
            require_regular(path)
            files.append(path)
        else:
            raise UserError(f"{printable(str(path))}: no such file or folder")
    return files


def read_images(files: list[Path], input_shape: tuple[int, int, int]) -> np.ndarray:
    """Decode image files to an array (N, C, H, W), float32 in [0, 1], in the same way as for training.

    Args:
        files: The paths of N image files.
        input_shape: The shape (C, H, W) of the images that the model expects.

    Raises:
        UserError: The model expects neither 1 nor 3 channels, or files can't be read as images. In the second case,
            the message lists the files.
    """
    images, unreadable = read_readable_images(files, input_shape)
    if unreadable:
        raise UserError(unreadable_in_words(unreadable))
    return images


def read_readable_images(
    files: list[Path], input_shape: tuple[int, int, int]
) -> tuple[np.ndarray, dict[Path, Exception]]:
    """Decode image files as `read_images` does, but leave out files that can't be read.

    Returns:
        The images (N, C, H, W) of the other files, and the error of each file that can't be read.

    Raises:
        UserError: The model expects neither 1 nor 3 channels.
    """
    if input_shape[0] not in MODES:
        raise UserError(f"the model expects {input_shape[0]} channels, so it can't read image files. Allowed: 1 or 3")
    images = np.empty((len(files), *input_shape), dtype=np.float32)
    unreadable: dict[Path, Exception] = {}
    count = 0
    for file in files:
        try:
            images[count] = decode(read_file(file), *input_shape) / np.float32(255)
            count += 1
        except Exception as error:  # a decoder can raise any exception for untrusted bytes
            unreadable[file] = error
    return images[:count], unreadable


def unreadable_in_words(unreadable: Mapping[Path, Exception]) -> str:
    """Return a sentence that lists files that can't be read as images, and why."""
    names = listed([f"{file} ({error})" for file, error in unreadable.items()])
    return f"files can't be read as images: {names}. Allowed: {', '.join(SUFFIXES)}"
