"""prepare_data: what it names, and what it shows meanwhile."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdmodels.experiment import Data
from tasks.data import load, prepare_data


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    return Data(source=str(tmp_path / "photos"))


def test_a_changed_file_is_seen_by_the_same_process(photos: Data) -> None:
    first = prepare_data.fn(photos, None)
    assert load(first).digest == first.digest
    Image.new("L", (4, 4)).save(Path(photos.source) / "a" / "0.png")
    second = prepare_data.fn(photos, None)
    assert second.digest != first.digest
    assert second.notes == ["modes converted to RGB: 1 L, 39 RGB"]
    with pytest.raises(RuntimeError, match="this worker reads other data"):
        load(first)


@pytest.mark.parametrize(("terminal", "quiet", "shown"), [("1", False, True), ("1", True, False), ("0", False, False)])
def test_decoding_is_shown_on_a_terminal_alone(
    photos: Data, terminal: str, quiet: bool, shown: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    prepare_data.fn(photos, None, quiet)
    told = capsys.readouterr()
    assert ("decoding the images" in told.err) == shown
    assert told.out == ""
    prepare_data.fn(photos, None, quiet)
    assert capsys.readouterr().err == ""  # the second time there is nothing to decode
