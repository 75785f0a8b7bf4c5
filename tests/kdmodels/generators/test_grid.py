"""The grid that shows images."""

import io

import numpy as np
import pytest
from PIL import Image

from kdmodels.generators.grid import SCALE, grid_png


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_each_image_at_its_place(channels: int) -> None:
    images = np.zeros((5, channels, 4, 5), np.float32)
    images[3] = 1
    picture = Image.open(io.BytesIO(grid_png(images, columns=3)))
    assert picture.size == (SCALE * (3 * 6 + 1), SCALE * (2 * 5 + 1))
    white = [picture.convert("L").getpixel((SCALE * (1 + 6 * column + 2), SCALE * (1 + 5 + 2))) for column in range(3)]
    assert white == [255, 0, 128]  # the last place is empty


def test_colours_and_rows_are_kept() -> None:
    image = np.zeros((1, 3, 2, 2), np.float32)
    image[0, 0, 0, 0] = 1  # the upper left pixel is red
    image[0, 2, 1, 1] = 1  # the lower right pixel is blue
    picture = Image.open(io.BytesIO(grid_png(image, columns=8)))
    assert picture.size == (SCALE * 4, SCALE * 4)
    pixels = [picture.getpixel((SCALE * column, SCALE * row)) for row in (1, 2) for column in (1, 2)]
    assert pixels == [(255, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 255)]
