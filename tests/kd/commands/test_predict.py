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


def test_a_submission_is_written_to_a_file(here: Here, image: str, tmp_path: Path) -> None:
    file = tmp_path / "submission.csv"
    code, out, error = here("predict", "small-student", image, "--submission", "-o", str(file))
    assert (code, out, error) == (0, "", f"wrote 1 rows to {file}\n")
    assert file.read_text().splitlines()[0] == "Id,Category"
