"""Files in a folder or in a zip. A zip is read in place and never unpacked to disk."""

import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdmodels.errors import UserError

LARGEST_FILE = 2**28  # maximum number of bytes of an image file; a larger file is a decompression bomb or a mistake
LISTED = 20  # maximum number of names in a message


@dataclass(frozen=True)
class Files:
    """The files of a folder or a zip, without hidden files.

    Every path is relative to the root, with `/` as the separator.

    Args:
        root: The folder or the zip.
        stamps: The stamp of each file, by the file's path. In a folder, a stamp holds the size and the modification
            time. In a zip, it holds the size and the checksum. If a file changes, its stamp changes.
        folders: The paths of all folders, including empty folders.
        read: A function that returns the content of a file, given the file's path.
    """

    root: Path
    stamps: dict[str, tuple[int, int]]
    folders: set[str]
    read: Callable[[str], bytes]


@contextmanager
def open_files(root: Path) -> Iterator[Files]:
    """Open a folder or a zip, and yield its files. A zip stays open until the block ends.

    Args:
        root: The path of the folder or the zip.

    Raises:
        UserError: The root can't be read, or a link in a folder leads back to a folder that contains the link. The same
            error is raised if a zip is damaged or encrypted, or holds a path that leads out of the zip.
    """
    with ExitStack() as stack:
        try:
            if root.is_dir():
                files = Files(root, *_walk(root), lambda path: read_file(root / path))
            else:
                require_regular(root)
                files = _zipped(root, stack.enter_context(zipfile.ZipFile(root)))
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, struct.error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"{root}: can't be read: {printable(reason or type(error).__name__)}") from error
        yield files


def printable(path: str) -> str:
    """Return a name as one line of valid text. The character U+FFFD replaces every invalid or unprintable character.

    >>> printable("a\\nb"), printable("\\udcff.png")
    ('a�b', '�.png')
    """
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def listed(names: list[str]) -> str:
    """Join names for a message. If there are more than 20, list the first 20 and the number of the others.

    >>> listed(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(printable, names[:LISTED])) + more


def is_hidden(name: str) -> bool:
    """Return whether a file is hidden or was created by the operating system.

    >>> [is_hidden(name) for name in (".DS_Store", "Thumbs.db", "__MACOSX", "cat.png")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini", "__macosx")


def _walk(root: Path) -> tuple[dict[str, tuple[int, int]], set[str]]:
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(os.stat(root)),))]
    while pending:
        prefix, above = pending.pop()
        for entry in os.scandir(root / prefix):
            path = prefix + entry.name
            if is_hidden(entry.name):
                continue
            try:
                about = entry.stat()
            except FileNotFoundError:  # a broken link, which is reported as unreadable later
                about = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                if _identity(about) in above:
                    raise UserError(f"{printable(str(root / path))}: is a link to a folder that contains it")
                folders.add(path)
                pending.append((f"{path}/", (*above, _identity(about))))
            elif stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode):
                stamps[path] = (about.st_size, about.st_mtime_ns)
    return stamps, folders


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def require_regular(path: Path) -> None:
    """Raise a UserError if a path leads to a pipe, a device or a socket.

    Reading such a file may never end.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{printable(str(path))}: is a pipe or device. Allowed: a regular file")


def read_file(path: Path) -> bytes:
    """Return the content of a regular file. Links are followed.

    Raises:
        OSError: The file can't be read.
        ValueError: The file is too large or is not a regular file. For a pipe, the error is raised immediately, without
            waiting for a writer.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # otherwise, opening a pipe without a writer would block
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("is not a regular file")
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"is larger than {LARGEST_FILE} bytes")
    return content


def _zipped(root: Path, archive: zipfile.ZipFile) -> Files:
    about: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        path = info.filename.replace("\\", "/")  # some Windows programs write backslashes
        parts = path.rstrip("/").split("/")
        if path.startswith("/") or ".." in parts or parts[0][1:2] == ":":
            raise UserError(f"{root}: {printable(path)!r} leads out of the zip. Allowed: paths below its root")
        if info.flag_bits & 1:
            raise UserError(f"{root}: is encrypted. Allowed: a zip without a password")
        if any(map(is_hidden, parts)):
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if path.endswith("/"):
            folders.add("/".join(parts))
            continue
        if path in about:
            raise UserError(f"{root}: holds {printable(path)!r} twice. Allowed: each path once")
        about[path] = info

    def read(path: str) -> bytes:
        if about[path].file_size > LARGEST_FILE:
            raise ValueError(f"unpacks to more than {LARGEST_FILE} bytes")
        return archive.read(about[path])

    return Files(root, {path: (info.file_size, info.CRC) for path, info in about.items()}, folders, read)
