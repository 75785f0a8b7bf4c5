"""Images as PNG files."""

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from kdmodels.report.pictures import LONGEST_SIDE, to_png


def decoded(picture: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(picture)))


def test_a_small_image_keeps_its_pixels() -> None:
    image = np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    shown = decoded(to_png(image))
    assert (shown.format, shown.mode, shown.size) == ("PNG", "RGB", (5, 4))
    assert np.asarray(shown) / 255 == pytest.approx(image.transpose(1, 2, 0), abs=1 / 255)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_are_shown_in_grey(channels: int) -> None:
    shown = decoded(to_png(np.full((channels, 3, 3), 2.0)))
    assert shown.mode == "L"
    assert np.asarray(shown).min() == 255  # values above 1 are cut off


def test_a_large_image_is_made_smaller() -> None:
    assert decoded(to_png(np.zeros((1, 200, 400)))).size == (LONGEST_SIDE, LONGEST_SIDE // 2)
