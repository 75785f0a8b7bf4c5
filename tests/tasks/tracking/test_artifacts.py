import os
from pathlib import Path

import pandas as pd
import pytest

from kdmodels.errors import UserError
from tasks import tracking


def test_stored_files_are_read_unchanged_and_without_a_copy(store: Path, tmp_path: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    tracking.log_text(run, "notes/a.txt", "ä")
    tracking.log_json(run, "split.json", {"train": [1, 2], "name": "ü"})
    frame = pd.DataFrame({"seed": [0, 1], "val/accuracy": [0.5, None]})
    tracking.log_table(run, "tables/seeds.csv", frame)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "weights.bin").write_bytes(b"\x00\x01")
    tracking.log_folder(run, tmp_path / "folder", "student")

    assert tracking.artifact(run, "notes/a.txt").read_text(encoding="utf-8") == "ä"
    assert tracking.artifact(run, "notes/a.txt").is_relative_to(store / "artifacts" / "digits" / run)
    assert tracking.read_json(run, "split.json") == {"train": [1, 2], "name": "ü"}
    pd.testing.assert_frame_equal(pd.read_csv(tracking.artifact(run, "tables/seeds.csv")), frame)
    assert (tracking.artifact(run, "student") / "deep" / "weights.bin").read_bytes() == b"\x00\x01"


def test_files_are_stored_in_a_folder(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    tracking.log_files(run, "figures", {"a.svg": b"<svg/>", "b.svg": b"\x00"})
    assert tracking.artifact(run, "figures/a.svg").read_bytes() == b"<svg/>"
    assert tracking.artifact(run, "figures/b.svg").read_bytes() == b"\x00"


def test_existing_artifacts_are_found(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    assert not tracking.has_artifact(run, "a.txt")
    tracking.log_text(run, "notes/a.txt", "")
    assert tracking.has_artifact(run, "notes")
    assert tracking.has_artifact(run, "notes/a.txt")
    assert not tracking.has_artifact(run, "a.txt")
    assert not tracking.has_artifact(run, "other/deep/a.txt")


def test_a_missing_file_is_a_clear_error(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    with pytest.raises(UserError, match=f"^run '{run}' has no file 'split.json'$"):
        tracking.read_json(run, "split.json")


def test_a_file_that_is_not_json_is_a_clear_error(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    tracking.log_text(run, "split.json", "{")
    with pytest.raises(UserError, match=r"'split.json' is not JSON"):
        tracking.read_json(run, "split.json")


def test_a_value_that_is_not_json_able_is_not_stored(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    with pytest.raises(TypeError):
        tracking.log_json(run, "a.json", {"path": Path("x")})
    assert not tracking.has_artifact(run, "a.json")


def test_pipes_and_devices_are_not_read(store: Path) -> None:
    """Reading such a file would never end."""
    run = tracking.start("digits", "kd", "student")
    tracking.log_text(run, "a.json", "{}")
    file = tracking.artifact(run, "a.json")
    for plant in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        file.unlink()
        plant(file)
        with pytest.raises(UserError, match=f"^run '{run}': its file 'a.json' is not a regular file$"):
            tracking.read_json(run, "a.json")


def test_endless_nesting_is_a_clear_error(store: Path) -> None:
    run = tracking.start("digits", "kd", "student")
    tracking.log_text(run, "a.json", "[" * 100_000)
    with pytest.raises(UserError, match=f"^run '{run}': its file 'a.json' is not JSON"):
        tracking.read_json(run, "a.json")
