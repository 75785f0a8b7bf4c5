"""`kd predict`: classes of images on stdout or in a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Here


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    return str(path)


def test_predictions_are_csv_on_stdout(here: Here, image: str) -> None:
    code, out, error = here("predict", "small-student", image)
    assert (code, error) == (0, "")
    titles, row = out.splitlines()
    assert titles == "file,class,index,probability"
    assert row.startswith(f"{image},")


def test_skipped_files_are_named_on_stderr(here: Here, image: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    code, out, error = here("predict", "small-student", image, str(broken), "--skip", "--top", "2")
    assert (code, error) == (0, f"skipped {broken}: is not an image in a known format\n")
    assert [row.startswith(f"{image},") for row in out.splitlines()] == [False, True, True]
    code, _, error = here("predict", "small-student", image, "--top", "2", "--submission")
    assert (code, error) == (2, "kd: error: --submission, --top: a submission has one class for each image\n")


def test_a_submission_is_written_to_a_file(here: Here, image: str, tmp_path: Path) -> None:
    file = tmp_path / "submission.csv"
    code, out, error = here("predict", "small-student", image, "--submission", "-o", str(file))
    assert (code, out, error) == (0, "", f"wrote 1 rows to {file}\n")
    assert file.read_text().splitlines()[0] == "Id,Category"
