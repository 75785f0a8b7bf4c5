"""Listing and reading files in folders and zips."""

import contextlib
import io
import os
import socket
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from kdmodels.data import load_dataset
from kdmodels.data.files import LARGEST_FILE, open_files, read_file
from kdmodels.data.images import find_images, read_images
from kdmodels.errors import UserError
from kdmodels.experiment import Data
from kdmodels.networks.checkpoint import read_content


def zipped(path: Path, files: dict[str, bytes], **more: int) -> Path:
    with zipfile.ZipFile(path, "w", **more) as archive:  # type: ignore[arg-type]
        for name, content in files.items():
            archive.writestr(name, content)
    return path


CONTENT = {"a/1.png": b"one", "b/ü.png": b"two", "b/c/3.PNG": b""}
HIDDEN = {".DS_Store": b"", "a/Thumbs.db": b"", "__MACOSX/a/._1.png": b"", ".hidden/x.png": b"", "a/.x.png": b""}


def test_a_folder_and_its_zip_have_the_same_files(tmp_path: Path) -> None:
    for name, content in (CONTENT | HIDDEN).items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    (tmp_path / "folder" / "empty").mkdir()
    archive = zipped(tmp_path / "folder.zip", CONTENT | HIDDEN | {"empty/": b""})
    for root in (tmp_path / "folder", archive):
        with open_files(root) as files:
            assert {name: files.read(name) for name in files.stamps} == CONTENT
            assert files.folders == {"a", "b", "b/c", "empty"}


def test_backslashes_in_a_zip_are_separators(tmp_path: Path) -> None:
    with open_files(zipped(tmp_path / "x.zip", {"a\\1.png": b"one"})) as files:
        assert (list(files.stamps), files.folders, files.read("a/1.png")) == (["a/1.png"], {"a"}, b"one")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "..\\x.png", "\\x.png"])
def test_a_path_that_leads_out_of_a_zip_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "x.zip", {"a/1.png": b"one", name: b"two"})
    with pytest.raises(UserError, match=r"leads out of the zip\. Allowed: paths below its root"), open_files(path):
        pass


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/1.png": b"one"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the encryption flag in the central directory
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is encrypted\. Allowed: a zip without a password"), open_files(path):
        pass


def test_a_decompression_bomb_in_a_zip_is_not_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a/1.png": b"0"}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    begin = content.index(b"PK\x01\x02") + 24
    content[begin : begin + 4] = struct.pack("<I", LARGEST_FILE + 1)
    path.write_bytes(content)
    with open_files(path) as files, pytest.raises(ValueError, match="unpacks to more than"):
        files.read("a/1.png")


def test_a_duplicate_name_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"2")
    with pytest.raises(UserError, match=r"holds 'a\.png' twice"), open_files(path):
        pass


def test_links_are_followed_except_to_a_containing_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(b"one")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "link.png").symlink_to(tmp_path / "nothing")
    with open_files(root) as files:
        assert sorted(files.stamps) == ["cat/1.png", "dog/1.png", "link.png"]
        with pytest.raises(FileNotFoundError):
            files.read("link.png")
    (root / "loop").symlink_to(root)
    with pytest.raises(UserError, match="loop: is a link to a folder that contains it"), open_files(root):
        pass


def test_a_pipe_beside_the_images_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode)
    with open_files(tmp_path) as files:
        assert files.stamps == {}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all" * 10])
def test_a_damaged_zip_is_reported(tmp_path: Path, content: bytes) -> None:
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


@example([(VALID.rindex(b"2.png"), 0xFF), (VALID.rindex(b"PK\x01\x02") + 9, 0x08)])  # flagged as UTF-8, but is not
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_to_a_zip_raises_only_a_user_error(
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
            with contextlib.suppress(UnicodeEncodeError, IndexError):  # a surrogate, or an empty name
                archive.writestr(name, b"x")
    with contextlib.suppress(UserError), open_files(path) as files:
        assert all(files.read(name) == b"x" for name in files.stamps)


def special(folder: Path) -> dict[str, Path]:
    """Yield paths that would block or never end: a pipe without a writer, devices, links to them, a socket."""
    os.mkfifo(folder / "pipe.png")
    (folder / "link-to-pipe.png").symlink_to(folder / "pipe.png")
    (folder / "link-to-device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.png"))
    names = ["pipe", "link-to-pipe", "link-to-device", "socket"]
    return {name: folder / f"{name}.png" for name in names} | {"device": Path("/dev/zero")}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    for path in special(tmp_path).values():
        with pytest.raises((ValueError, OSError), match=r"is not a regular file|No such device or address"):
            read_file(path)
        with pytest.raises(UserError, match=r"is a pipe or device\. Allowed: a regular file"), open_files(path):
            pass
    assert read_file(tmp_path / "link.png") == b"x"
    with open_files(tmp_path) as files:
        assert sorted(files.stamps) == ["link.png", "real.png"]


def test_a_file_replaced_by_a_pipe_after_listing_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    with open_files(tmp_path) as files:
        (tmp_path / "x.png").unlink()
        os.mkfifo(tmp_path / "x.png")
        with pytest.raises(ValueError, match="is not a regular file"):
            files.read("x.png")


def test_prediction_reads_the_same_files_as_training(tmp_path: Path) -> None:
    for path in special(tmp_path).values():
        with pytest.raises(UserError, match=r"is a pipe or device\. Allowed: a regular file"):
            find_images([path])
        with pytest.raises(UserError, match="can't be read as images"):
            read_images([path], (1, 2, 2))
    with pytest.raises(UserError, match="the folder contains no image"):
        find_images([tmp_path])
    (tmp_path / "a").mkdir()
    Image.new("L", (2, 2), 255).save(tmp_path / "a" / "1.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    files = find_images([tmp_path])
    assert files == [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"]
    assert read_images(files, (1, 2, 2)).min() == 1


@pytest.mark.parametrize("suffix", [".zip", ".npz", ".parquet"])
def test_a_pipe_as_a_source_is_refused(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"x{suffix}")
    (tmp_path / f"link{suffix}").symlink_to("/dev/zero")
    for name in ("x", "link"):
        with pytest.raises(UserError, match=r"is a pipe or device\. Allowed: a regular file"):
            load_dataset(Data(source=str(tmp_path / f"{name}{suffix}")))


def test_pipes_are_refused_or_skipped_wherever_data_is_read(tmp_path: Path) -> None:
    """Check pipes beside images, as unlabelled images, in a published dataset, and as a checkpoint."""
    for name in ("0", "1", "more"):
        (tmp_path / "pool" / name).mkdir(parents=True)
    for number in range(20):
        Image.new("L", (2, 2), number * 9).save(tmp_path / "pool" / str(number % 2) / f"{number}.png")
        Image.new("L", (2, 2), number * 9 + 1).save(tmp_path / "pool" / "more" / f"{number}.png")
    (tmp_path / "pool" / "more").rename(tmp_path / "more")
    for folder in (tmp_path / "pool" / "0", tmp_path / "more"):
        special(folder)
    data = Data.model_validate({"source": str(tmp_path / "pool"), "transfer": {"unlabelled": str(tmp_path / "more")}})
    dataset = load_dataset(data)
    assert (dataset.classes, len(dataset.distillation_split) - len(dataset.train)) == (["0", "1"], 20)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    os.mkfifo(raw / "train-images-idx3-ubyte")
    with pytest.raises(UserError, match=r"is a pipe or device\. Allowed: a regular file"):
        load_dataset(Data(source="mnist"), tmp_path)
    os.mkfifo(tmp_path / "weights.pt")
    with pytest.raises(UserError, match="no such checkpoint file"):
        read_content(tmp_path / "weights.pt")
