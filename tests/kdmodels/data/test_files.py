"""Folders and zips as files by name."""

import contextlib
import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kdmodels.data.files import LARGEST_FILE, open_files
from kdmodels.errors import UserError


def zipped(path: Path, files: dict[str, bytes], **more: int) -> Path:
    with zipfile.ZipFile(path, "w", **more) as archive:  # type: ignore[arg-type]
        for name, content in files.items():
            archive.writestr(name, content)
    return path


CONTENT = {"a/1.png": b"one", "b/ü.png": b"two", "b/c/3.PNG": b""}
HIDDEN = {".DS_Store": b"", "a/Thumbs.db": b"", "__MACOSX/a/._1.png": b"", ".hidden/x.png": b"", "a/.x.png": b""}


def test_a_folder_and_a_zip_of_it_are_the_same(tmp_path: Path) -> None:
    for name, content in (CONTENT | HIDDEN).items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    (tmp_path / "folder" / "empty").mkdir()
    archive = zipped(tmp_path / "folder.zip", CONTENT | HIDDEN | {"empty/": b""})
    for root in (tmp_path / "folder", archive):
        with open_files(root) as files:
            assert {name: files.read(name) for name in files.stamps} == CONTENT
            assert files.folders == {"a", "b", "b/c", "empty"}


def test_a_zip_of_another_system_has_backslashes(tmp_path: Path) -> None:
    with open_files(zipped(tmp_path / "x.zip", {"a\\1.png": b"one"})) as files:
        assert (list(files.stamps), files.folders, files.read("a/1.png")) == (["a/1.png"], {"a"}, b"one")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\x.png"])
def test_a_path_that_leads_out_of_a_zip_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "x.zip", {"a/1.png": b"one", name: b"two"})
    with pytest.raises(UserError, match="leads out of the zip; allowed: paths below its root"), open_files(path):
        pass


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/1.png": b"one"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted; allowed: a zip without a password"), open_files(path):
        pass


def test_a_member_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/1.png": b"0"}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    begin = content.index(b"PK\x01\x02") + 24
    content[begin : begin + 4] = struct.pack("<I", LARGEST_FILE + 1)
    path.write_bytes(content)
    with open_files(path) as files, pytest.raises(ValueError, match="unpacks to more than"):
        files.read("a/1.png")


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"2")
    with pytest.raises(UserError, match=r"holds 'a\.png' twice"), open_files(path):
        pass


def test_a_link_in_a_circle_is_refused_and_other_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(b"one")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "gone.png").symlink_to(tmp_path / "nothing")
    with open_files(root) as files:
        assert sorted(files.stamps) == ["cat/1.png", "dog/1.png", "gone.png"]
        with pytest.raises(FileNotFoundError):
            files.read("gone.png")
    (root / "loop").symlink_to(root)
    with pytest.raises(UserError, match="loop: a link that leads back to a folder it lies in"), open_files(root):
        pass


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode)
    with open_files(tmp_path) as files:
        assert files.stamps == {}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all" * 10])
def test_a_damaged_zip_is_a_users_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.zip: can't be read: "), open_files(tmp_path / "x.zip"):
        pass


def _valid() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", b"one" * 50)
        archive.writestr("b/2.png", b"two")
    return stream.getvalue()


VALID = _valid()


@example([(VALID.rindex(b"2.png"), 0xFF), (VALID.rindex(b"PK\x01\x02") + 9, 0x08)])  # said to be UTF-8, and is not
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_damage_to_a_zip_is_anything_but_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(VALID)
    for place, value in damage:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    path.write_bytes(content)
    with contextlib.suppress(UserError), open_files(path) as files:
        assert not any(".." in name.split("/") for name in files.stamps)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
def test_any_names_in_a_zip_are_listed_or_refused(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            with contextlib.suppress(UnicodeEncodeError, IndexError):  # half a character, no name
                archive.writestr(name, b"x")
    with contextlib.suppress(UserError), open_files(path) as files:
        assert all(files.read(name) == b"x" for name in files.stamps)
