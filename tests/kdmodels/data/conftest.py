"""Fixtures: a separate cache folder for each test, and image folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Photos = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Return a function that writes `count` different random PNGs to each folder; `size` is (height, width)."""
    generator = np.random.default_rng(0)

    def write(*folders: str, count: int = 10, size: tuple[int, int] = (8, 8), channels: int = 3) -> Path:
        for folder in folders:
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (*size, channels), dtype=np.uint8)
                image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
                image.save(tmp_path / "photos" / folder / f"{number:02}.png")
        return tmp_path / "photos"

    return write
