"""Images as small PNG files for a page."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from PIL import Image

LONGEST_SIDE = 128  # pixels; larger images are scaled down


def to_png(image: np.ndarray) -> str:
    """Return an image as a PNG file, base64-encoded.

    An image with 3 channels is shown in colour. Of any other image, the first channel is shown in grey.

    Args:
        image: The image, (C, H, W), with values in [0, 1].
    """
    pixels = (255 * image.clip(0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0])
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return b64encode(file.getvalue()).decode()
