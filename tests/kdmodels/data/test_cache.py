"""The cache: decoded files are produced once, and appear completely or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kdmodels.data.cache import cached
from kdmodels.errors import UserError


def test_files_are_produced_once_per_manifest(cache: Path) -> None:
    made: list[str] = []

    def produce(folder: Path) -> None:
        made.append(folder.name)
        (folder / "x").write_text(str(len(made)))

    assert [(cached(["a"], manifest, produce) / "x").read_text() for manifest in (1, 1, 2, 2, 1)] == list("11223")
    assert (cached(["b"], 1, produce) / "x").read_text() == "4"
    assert len(list(cache.glob("kdflow/decoded/*/*/x"))) == 2  # one per source


def test_an_interrupted_producer_leaves_no_files(cache: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "x").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(["a"], 1, produce)
    assert [path.name for path in cache.glob("kdflow/decoded/*/*")] == ["lock"]
    assert (cached(["a"], 1, lambda folder: None)).is_dir()


def test_files_of_a_killed_process_are_removed(cache: Path) -> None:
    old = cached(["a"], 1, lambda folder: None)
    (old.parent / "partial-x").mkdir()
    new = cached(["a"], 2, lambda folder: None)
    assert sorted(path.name for path in new.parent.iterdir()) == sorted([new.name, "lock"])


def test_concurrent_callers_produce_the_files_once() -> None:
    made: list[Path] = []
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: cached(["a"], 1, made.append), range(8)))
    assert len(folders) == len(made) == 1


def test_a_cache_folder_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        UserError, match=r"can't store the decoded images: Not a directory\. Allowed: a writable cache folder"
    ):
        cached(["a"], 1, lambda folder: None)
