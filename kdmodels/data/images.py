"""Image files as a batch in the input convention: float32 (N, C, H, W) in [0, 1]."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kdmodels.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MODES = {1: "L", 3: "RGB"}


def find_images(paths: list[Path]) -> list[Path]:
    """The files named, and the images in the folders named, in order of name.

    Raises:
        UserError: a path does not exist, or a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not found:
                raise UserError(f"{path}: no image in this folder; allowed: {', '.join(SUFFIXES)}")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return files


def read_images(files: list[Path], input_shape: tuple[int, int, int]) -> np.ndarray:
    """The files as (N, C, H, W), converted to the network's number of channels and resized to its height and width.

    Raises:
        UserError: a file can't be read as an image; the line lists every such file.
    """
    channels, height, width = input_shape
    if channels not in MODES:
        raise UserError(f"a model of {channels} channels can't read image files; allowed: {sorted(MODES)}")
    batch = np.empty((len(files), channels, height, width), dtype=np.float32)
    unreadable: list[str] = []
    for row, file in zip(batch, files, strict=True):
        try:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert(MODES[channels]).resize((width, height), Image.Resampling.BILINEAR))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            unreadable.append(str(file))
            continue
        row[:] = np.atleast_3d(pixels).transpose(2, 0, 1) / np.float32(255)
    if unreadable:
        raise UserError(f"not readable as images: {', '.join(unreadable)}")
    return batch
