"""`kd sample`: options that are out of range, and models that make no images, in one line each."""

import pytest

from tests.conftest import Here


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["small-student", "-o", "grid.png"], "model 'small-student' is not a generator. Allowed: a generator"),
        (["small-student", "-o", "grid.jpg"], "--out grid.jpg: expected a file name that ends with .png"),
        (["small-student", "-o", "grid.png", "-n", "0"], "'-n': Input should be greater than or equal to 1"),
        (["small-student", "-o", "grid.png", "--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
        (["small-student"], "Missing option '--out' / '-o'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(here: Here, words: list[str], message: str) -> None:
    code, out, error = here("sample", *words)
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1
