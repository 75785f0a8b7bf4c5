"""Decoded files appear whole or not at all, once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kdmodels.data.cache import cached
from kdmodels.errors import UserError


def test_a_place_is_produced_once_for_each_manifest(cache: Path) -> None:
    made: list[str] = []

    def produce(folder: Path) -> None:
        made.append(folder.name)
        (folder / "x").write_text(str(len(made)))

    assert [(cached(["a"], manifest, produce) / "x").read_text() for manifest in (1, 1, 2, 2, 1)] == list("11223")
    assert (cached(["b"], 1, produce) / "x").read_text() == "4"
    assert len(list(cache.glob("kdflow/decoded/*/*/x"))) == 2  # one for each place


def test_what_fails_or_is_stopped_leaves_nothing(cache: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "x").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(["a"], 1, produce)
    assert [path.name for path in cache.glob("kdflow/decoded/*/*")] == ["lock"]
    assert (cached(["a"], 1, lambda folder: None)).is_dir()


def test_what_a_killed_process_left_is_removed(cache: Path) -> None:
    old = cached(["a"], 1, lambda folder: None)
    (old.parent / "partial-x").mkdir()
    new = cached(["a"], 2, lambda folder: None)
    assert sorted(path.name for path in new.parent.iterdir()) == sorted([new.name, "lock"])


def test_two_at_once_produce_it_once() -> None:
    made: list[Path] = []
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: cached(["a"], 1, made.append), range(8)))
    assert len(folders) == len(made) == 1


def test_a_folder_that_can_not_be_written_is_a_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        UserError, match=r"the decoded images can't be kept there: Not a directory; allowed: a folder that"
    ):
        cached(["a"], 1, lambda folder: None)
