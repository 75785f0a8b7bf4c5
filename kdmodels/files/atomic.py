"""Atomic writes. A file appears completely or not at all. A link at the file's path is not followed."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

PRIVATE, SHARED = 0o600, 0o666
"""Modes of a new file. Only this user can read a `PRIVATE` file. The umask restricts the mode of a `SHARED` file."""
_STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d{1,9})|/proc/self/fd/\d{1,9}")


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[Path], object], *, mode: int = PRIVATE) -> Path:
    """Write a temporary file in the folder of `path`, flush the file to the disk, and rename it to `path`.

    If writing fails, the temporary file is deleted. A link at `path` is replaced, not followed.

    The temporary file has a random name and must not exist yet. Another process therefore can't create it beforehand.

    Args:
        path: The path of the finished file.
        write: A function that writes the content to a given path. This path has the same suffix as `path`.
        mode: `PRIVATE`, regardless of the umask, or `SHARED`, for files that the user requested.

    Returns:
        The argument `path`.

    Raises:
        OSError: The file can't be written.
    """
    with _partial(path, write, mode) as partial:
        partial.rename(path)
        sync(path.parent)
    return path


def write_once(path: Path, text: str) -> None:
    """Write a file that only this user can read, unless the file exists.

    If several processes write the file at the same time, the first complete file is kept.

    Raises:
        OSError: The file can't be written.
    """
    with _partial(path, lambda partial: partial.write_text(text), PRIVATE) as partial, suppress(FileExistsError):
        os.link(partial, path)
        sync(path.parent)


@contextmanager
def _partial(path: Path, write: Callable[[Path], object], mode: int) -> Iterator[Path]:
    """Write a temporary file in the folder of `path`, flush the file to the disk, and yield the file's path.

    The temporary file has a random name. If the file still has this name when the block ends, the file is deleted.
    """
    partial = path.with_name(f".partial-{token_hex(8)}{path.suffix}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        if mode == PRIVATE:
            os.fchmod(handle, mode)
        os.close(handle)
        write(partial)
        sync(partial)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def write_output(path: Path, content: str | bytes) -> None:
    """Write text or bytes to a path that the user named. The path can be a file, a link, a device or a pipe.

    An existing file or link is replaced. A device or a pipe must belong to this user or to root. If the path names an
    open stream, such as /dev/stdout, these rules do not apply, and the content is written to the stream.

    Raises:
        OSError: The content can't be written, or the device or pipe belongs to another user.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    is_stream = _STREAM.fullmatch(str(path.absolute())) is not None
    if not is_stream and not _is_special(path):
        write_whole(path, lambda partial: partial.write_bytes(data), mode=SHARED)
        return
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | (0 if is_stream else os.O_NOFOLLOW))
    with os.fdopen(handle, "wb") as file:
        status = os.fstat(handle)
        if not is_stream and (stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.getuid())):
            raise PermissionError("the device or pipe belongs to another user")
        file.write(data)


def _is_special(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a socket. Links are not followed."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode))
