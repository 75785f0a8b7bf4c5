"""Temporary folders: deleted after use, found again after a crash, and never confused with a user's folders."""

from pathlib import Path

import pytest

from kdmodels.files.temporary import Orphan, orphans, temporary_folder

NAME = "kdflow-" + "0" * 32


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a temporary directory of the test's own; the cache is beside it."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_folder_and_lock_are_deleted_after_use_and_after_an_error(temporary: Path) -> None:
    with temporary_folder() as folder:
        (folder / "file").write_text("content")
        assert orphans() == []
    with pytest.raises(KeyboardInterrupt), temporary_folder():
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


def test_a_folder_with_a_free_lock_is_an_orphan(temporary: Path) -> None:
    folder = temporary / NAME
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(bytes(2000))
    folder.with_suffix(".lock").touch()
    assert orphans() == [Orphan(folder, 0.002, "temporary files")]
    assert [orphan.folder for orphan in orphans(delete=True)] == [folder]
    assert list(temporary.iterdir()) == []


def test_a_half_decoded_folder_is_an_orphan_and_its_shared_lock_stays(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "kdflow" / "decoded" / "source"
    (root / "partial-x").mkdir(parents=True)
    (root / "lock").touch()
    assert [orphan.content for orphan in orphans(delete=True)] == ["half-decoded data"]
    assert [path.name for path in root.iterdir()] == ["lock"]


def test_folders_without_a_lock_or_with_another_name_are_left_alone(temporary: Path) -> None:
    (temporary / NAME).mkdir()
    (temporary / "kdflow-notes").mkdir()
    (temporary / "kdflow-notes.lock").touch()
    before = sorted(temporary.iterdir())
    assert orphans(delete=True) == []
    assert sorted(temporary.iterdir()) == before
