"""Atomic writes: files appear completely or not at all, and planted links are not followed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdmodels.files.atomic import SHARED, write_once, write_output, write_whole


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a file elsewhere that must not change."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "victim").write_text("precious")
    return folder / "victim"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_private_file_is_private_with_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "text", lambda path: path.write_text("x"))
        write_whole(tmp_path / "w.safetensors", lambda path: save_file({"a": torch.ones(2)}, path))
        write_whole(tmp_path / "shared", lambda path: path.write_text("x"), mode=SHARED)
    finally:
        os.umask(before)
    assert mode(tmp_path / "text") == mode(tmp_path / "w.safetensors") == 0o600
    assert mode(tmp_path / "shared") == 0o666 & ~umask


def test_write_once_keeps_the_first_file(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write_once(tmp_path / "password", text)
    assert (tmp_path / "password").read_text() == "first"
    assert mode(tmp_path / "password") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["password"]


def test_a_planted_link_is_replaced_not_followed(tmp_path: Path, victim: Path) -> None:
    for number, target in enumerate((victim, tmp_path / "nothing")):  # also a broken link
        link = tmp_path / f"out{number}.csv"
        link.symlink_to(target)
        write_whole(link, lambda path: path.write_text("new"))
        assert not link.is_symlink()
        assert link.read_text() == "new"
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_links_planted_beside_the_file_are_not_followed(tmp_path: Path, victim: Path) -> None:
    """Regression: partial files had the predictable names `NAME.partial` and `.NAME.PID`."""
    target = tmp_path / "out.csv"
    for name in ("out.csv.partial", f".out.csv.{os.getpid()}", f".{os.getpid()}.out.csv"):
        (tmp_path / name).symlink_to(victim)
    write_whole(target, lambda path: path.write_text("new"))
    write_output(target, "newer")
    assert (target.read_text(), victim.read_text()) == ("newer", "precious")


def test_an_existing_partial_file_is_kept(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdmodels.files.atomic.token_hex", lambda count: "known")
    (tmp_path / ".partial-known.csv").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "out.csv", lambda path: path.write_text("new"))
    assert victim.read_text() == "precious"


def test_writing_to_a_hard_link_leaves_the_other_name_unchanged(tmp_path: Path, victim: Path) -> None:
    os.link(victim, tmp_path / "out.csv")
    write_output(tmp_path / "out.csv", "new")
    assert victim.read_text() == "precious"


def test_a_failed_write_leaves_only_the_earlier_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("earlier")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(target, fail)
    assert target.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_output_goes_into_a_pipe_of_this_user(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_output_does_not_go_into_a_pipe_of_another_user(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    os.chown(pipe, 65534, 65534)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(PermissionError):
        write_output(pipe, "secret")
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_a_link_to_a_pipe_or_device_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for number, target in enumerate((tmp_path / "pipe", Path("/dev/null"))):
        link = tmp_path / f"link{number}"
        link.symlink_to(target)
        write_output(link, "text")
        assert link.is_file()
        assert not link.is_symlink()
    assert os.read(reader, 100) == b""
    os.close(reader)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_output_to_an_open_stream_is_appended(tmp_path: Path, name: str) -> None:
    program = (
        f"from pathlib import Path; from kdmodels.files.atomic import write_output; write_output(Path({name!r}), 'b')"
    )
    (tmp_path / "file").write_text("a")
    with (tmp_path / "file").open("a") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
    assert (tmp_path / "file").read_text() == "ab"
    piped = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert piped.stdout == b"b"
