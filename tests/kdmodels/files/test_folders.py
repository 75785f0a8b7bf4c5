"""Folders of the cache: readable by this user only, and never prepared by another user."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdmodels.data.cache import cached
from kdmodels.errors import UserError
from kdmodels.files.folders import cache_folder, folder_bytes, private_folder
from kdmodels.files.temporary import temporary_folder
from tasks import tracking

OTHER = 65534  # nobody


@pytest.fixture(params=[0o000, 0o022, 0o002])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder without a cache, under several umasks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = os.umask(request.param)
    yield tmp_path
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of everything in a folder."""
    return {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))
    }


def test_everything_stored_is_readable_by_this_user_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def produce(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "pixels").write_bytes(b"x")

    cached(["a"], 1, produce)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////somewhere")
    tracking.machine_folder("locks")
    with temporary_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.with_suffix(".lock").stat().st_mode) == 0o600
    seen = modes(home)
    kinds = {stat.S_ISDIR((home / name).stat().st_mode): set() for name in seen}
    for name, mode in seen.items():
        kinds[(home / name).is_dir()].add(mode)
    assert kinds == {True: {0o700}, False: {0o600}}
    assert len(seen) > 10


def test_a_folder_of_an_earlier_version_becomes_private(home: Path) -> None:
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(0o755)
    private_folder(cache_folder() / "new")
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_cache_that_others_can_write_to_is_refused(home: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////somewhere")
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(mode)
    with pytest.raises(PermissionError, match=f"other users may write to .*kdflow .mode {mode:o}.; delete it"):
        private_folder(cache_folder() / "decoded" / "x")
    with pytest.raises(UserError, match="other users may write to"):
        cached(["a"], 1, lambda folder: None)
    with pytest.raises(UserError, match="other users may write to"):
        tracking.machine_folder("locks")
    assert list(cache_folder().iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_a_cache_prepared_by_another_user_is_refused(home: Path) -> None:
    cache_folder().mkdir(parents=True, mode=0o700)
    os.chown(cache_folder(), OTHER, OTHER)
    with pytest.raises(PermissionError, match="belongs to another user; delete it, or set another cache"):
        private_folder(cache_folder() / "decoded")
    cache_folder().rmdir()
    (home / "cache on another disk").mkdir(mode=0o700)
    cache_folder().symlink_to(home / "cache on another disk")
    private_folder(cache_folder())  # a user may keep the cache on another disk
    os.chown(cache_folder(), OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(PermissionError, match="belongs to another user"):
        private_folder(cache_folder())


def test_the_size_of_a_folder_counts_files_at_any_depth_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"1234")
    (tmp_path / "a" / "b" / "two").write_bytes(b"56")
    (tmp_path / "large").write_bytes(bytes(10_000))
    size = folder_bytes(tmp_path / "a")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "large")
    assert size == 6
    assert 6 < folder_bytes(tmp_path / "a") < 10_000
    assert folder_bytes(tmp_path / "nothing") == 0
