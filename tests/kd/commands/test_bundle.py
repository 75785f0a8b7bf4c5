"""`kd bundle`: the file that it writes, and mistakes in its arguments."""

from pathlib import Path

import pytest

from tests.conftest import Here, Recorded


def test_the_bundle_is_written_once(
    recorded: Recorded, kd_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = kd_here("bundle", recorded.first)
    assert (code, error) == (0, "")
    assert out.startswith(f"bundle    {tmp_path / 'small.zip'}, ")
    code, out, error = kd_here("bundle", recorded.first, "-o", "small.zip")
    assert (code, out, error) == (2, "", "kd: error: small.zip: exists already. Choose another file name\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--import",), 2, "--import: expected one file, as in kd bundle --import run.zip"),
        (("--import", "a.zip", "-o", "b.zip"), 2, "--import: expected one file"),
        (("--import", "absent.zip"), 1, "absent.zip: can't be read: No such file or directory"),
        (("nothing",), 2, "run 'nothing' is not in the tracking store"),
    ],
)
def test_a_mistake_is_one_line(
    recorded: Recorded, kd_here: Here, words: tuple[str, ...], code: int, message: str
) -> None:
    done, out, error = kd_here("bundle", *words)
    assert (done, out, message in error) == (code, "", True), error
