"""The files below a folder or in a zip, read where they lie: nothing is ever unpacked."""

import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdmodels.errors import UserError

LARGEST_FILE = 2**28  # bytes of one image file: a bomb's, or a mistake
LISTED = 20  # names in a message


@dataclass(frozen=True)
class Files:
    """Files by their path within the root, parts joined by `/`; hidden ones are left out.

    `stamps` is what changes when a file does: its size, and its time of change or its checksum. `folders` are all
    folders, also the empty ones.
    """

    root: Path
    stamps: dict[str, tuple[int, int]]
    folders: set[str]
    read: Callable[[str], bytes]


@contextmanager
def open_files(root: Path) -> Iterator[Files]:
    """The files of a folder, or of a zip that stays open for the block.

    Raises:
        UserError: it can't be read, a link leads in a circle, or the zip is damaged, encrypted or holds paths that
            lead out of it.
    """
    with ExitStack() as stack:
        try:
            if root.is_dir():
                files = Files(root, *_walk(root), lambda path: read_file(root / path))
            else:
                require_regular(root)
                files = _zipped(root, stack.enter_context(zipfile.ZipFile(root)))
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, struct.error) as error:
            told = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"{root}: can't be read: {printable(told or type(error).__name__)}") from error
        yield files


def printable(path: str) -> str:
    """A name as it can be shown: one line, and valid text.

    >>> printable("a\\nb"), printable("\\udcff.png")
    ('a�b', '�.png')
    """
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def listed(names: list[str]) -> str:
    """Names for a message: the first ones, and how many there are beside.

    >>> listed(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(printable, names[:LISTED])) + more


def is_hidden(name: str) -> bool:
    """Of the system, not of the user.

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
            except FileNotFoundError:  # a link to nothing: it is told as unreadable
                about = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                if _identity(about) in above:
                    raise UserError(f"{printable(str(root / path))}: a link that leads back to a folder it lies in")
                folders.add(path)
                pending.append((f"{path}/", (*above, _identity(about))))
            elif stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode):
                stamps[path] = (about.st_size, about.st_mtime_ns)
    return stamps, folders


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def require_regular(path: Path) -> None:
    """Raise a UserError if a path is a pipe, a device or a socket, or a link to one: these may never end."""
    if path.exists() and not path.is_file():
        raise UserError(f"{printable(str(path))}: is a pipe or device; allowed: a regular file")


def read_file(path: Path) -> bytes:
    """Return the content of a regular file, or of one that a link leads to.

    Raises:
        OSError: the file can't be read.
        ValueError: it is too large, or no regular file; nothing is waited for.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would block
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("is no regular file")
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE} bytes")
    return content


def _zipped(root: Path, archive: zipfile.ZipFile) -> Files:
    about: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        path = info.filename.replace("\\", "/")  # as some programs write it
        parts = path.rstrip("/").split("/")
        if path.startswith("/") or ".." in parts or parts[0][1:2] == ":":
            raise UserError(f"{root}: {printable(path)!r} leads out of the zip; allowed: paths below its root")
        if info.flag_bits & 1:
            raise UserError(f"{root}: is encrypted; allowed: a zip without a password")
        if any(map(is_hidden, parts)):
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if path.endswith("/"):
            folders.add("/".join(parts))
            continue
        if path in about:
            raise UserError(f"{root}: holds {printable(path)!r} twice")
        about[path] = info

    def read(path: str) -> bytes:
        if about[path].file_size > LARGEST_FILE:
            raise ValueError(f"unpacks to more than {LARGEST_FILE} bytes")
        return archive.read(about[path])

    return Files(root, {path: (info.file_size, info.CRC) for path, info in about.items()}, folders, read)
