"""Pictures that show many images in a grid. This module needs only numpy and Pillow."""

from io import BytesIO

import numpy as np
from PIL import Image

SCALE = 2  # each pixel of an image becomes a square of 2 x 2 pixels in the picture
GAP = 0.5  # grey value of the lines between the images, from 0 (black) to 1 (white)


def grid_png(images: np.ndarray, columns: int) -> bytes:
    """Return a PNG picture that shows images in rows, from left to right and from top to bottom.

    Args:
        images: Images in [0, 1], (N, C, H, W), with 1 or 3 channels.
        columns: Number of images in a row.
    """
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), GAP, np.float32)
    for number, image in enumerate(images):
        top, left = 1 + number // columns * (height + 1), 1 + number % columns * (width + 1)
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    values = np.rint(grid.clip(0, 1) * 255).astype(np.uint8).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    content = BytesIO()
    Image.fromarray(values[:, :, 0] if channels == 1 else values).save(content, "PNG", optimize=True)
    return content.getvalue()
