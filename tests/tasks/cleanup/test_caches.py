import math
import os
from pathlib import Path

import pytest

from kdmodels.files.folders import DECODED_LOCK, cache_folder
from tasks import tracking
from tasks.cleanup import caches


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_decoded_data_count_by_their_files_but_not_by_their_lock() -> None:
    folder = cache_folder() / "decoded" / "digits"
    (folder / "arrays").mkdir(parents=True)
    (folder / "arrays" / "images").write_bytes(b"12345")
    (folder / DECODED_LOCK).touch()
    os.utime(folder / "arrays", (7, 7))
    (cache,) = caches.decoded()
    assert (cache.kind, cache.name, cache.bytes, cache.used) == ("decoded data", "digits", 5, 7_000)
    (folder / "arrays" / "images").unlink()
    assert caches.decoded() == []


def test_a_folder_that_was_removed_is_an_empty_cache(tmp_path: Path) -> None:
    cache = caches.in_folder("checkpoints", tmp_path / "nothing")
    assert (cache.bytes, cache.used) == (0, 0)


@pytest.mark.usefixtures("store")
def test_files_among_the_folders_are_ignored() -> None:
    for folder in (tracking.machine_folder("checkpoints"), tracking.copies_folder()):
        (folder / "notes.txt").write_text("a file that kdflow did not write")
    assert caches.checkpoints() == caches.copies() == []


def test_knowledge_is_used_until_the_last_student_of_the_teacher_ends(store: Path) -> None:
    teacher = tracking.start("digits", "teacher", "teacher", key="t")
    tracking.log_text(teacher, "knowledge/logits.npy", "123")
    with tracking.recording(teacher):
        pass
    (unused,) = caches.knowledge(tracking.every_run())
    assert (unused.name, unused.bytes, unused.run_id) == ("of teacher", 3, teacher)
    assert unused.used == tracking.get(teacher).end
    student = tracking.start("digits", "kd", "student", params={"teacher": "t"})
    assert caches.knowledge(tracking.every_run())[0].used == math.inf
    with tracking.recording(student):
        pass
    assert caches.knowledge(tracking.every_run())[0].used == tracking.get(student).end


def test_a_copy_of_knowledge_is_used_when_a_student_reads_it(store: Path) -> None:
    assert caches.copies() == []
    folder = tracking.copies_folder() / "0123"
    (folder / "knowledge").mkdir(parents=True)
    (folder / "knowledge" / "logits.npy").write_bytes(b"12345")
    os.utime(folder / "knowledge", (7, 7))
    (cache,) = caches.copies()
    assert (cache.kind, cache.name, cache.bytes, cache.used) == ("downloaded knowledge", "0123", 5, 7_000)


def test_stored_data_are_used_while_a_comparison_runs_and_until_the_last_of_its_experiment_ends(store: Path) -> None:
    holder = tracking.start("digits", "digits", "comparison", tags={tracking.Tag.STORED_DATA: "{}"})
    tracking.log_text(holder, "data/pool/pixels.npy", "123")
    assert caches.stored_data(tracking.every_run())[0].used == math.inf
    tracking.end(holder, "FINISHED")
    later, other = (tracking.start(name, name, "comparison") for name in ("digits", "mnist"))
    tracking.end(later, "FINISHED")
    assert caches.stored_data(tracking.every_run())[0].used == math.inf
    tracking.end(other, "FINISHED")
    (cache,) = caches.stored_data(tracking.every_run())
    assert (cache.kind, cache.bytes, cache.run_id) == ("stored data", 3, holder)
    assert cache.used == tracking.get(later).end


def test_downloaded_data_are_used_when_a_student_reads_them(store: Path) -> None:
    folder = tracking.machine_folder("data") / "0123"
    folder.mkdir()
    (folder / "pixels.npy").write_bytes(b"12345")
    os.utime(folder / "pixels.npy", (7, 7))
    (cache,) = caches.downloaded_data()
    assert (cache.kind, cache.name, cache.bytes, cache.used) == ("downloaded data", "0123", 5, 7_000)
