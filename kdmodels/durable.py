"""Atomic writes: a file appears whole or not at all, and nothing that lies at its name is written through."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

PRIVATE, SHARED = 0o600, 0o666
"""Modes of a new file: for this user alone, or as the umask says."""
_STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d{1,9})|/proc/self/fd/\d{1,9}")


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's names, to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[Path], object], *, mode: int = PRIVATE) -> Path:
    """Write a file under a random name beside its place, sync it, then rename it; on failure leave nothing.

    A link at `path` is replaced, never followed, and no other process can have prepared the random name.

    Args:
        write: writes the content to the path that it gets, which has the suffix of `path`.
        mode: `PRIVATE`, whatever the umask; or `SHARED`, for a file that the user asked for.

    Raises:
        OSError: the file can't be written.
    """
    partial = path.with_name(f".partial-{token_hex(8)}{path.suffix}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        if mode == PRIVATE:
            os.fchmod(handle, mode)
        os.close(handle)
        write(partial)
        sync(partial)
        partial.rename(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_output(path: Path, text: str) -> None:
    """Write text where the user asked for it: to a new file, in place of a file or link, or into a device or pipe.

    A device or pipe gets the text only if it belongs to this user or root, and not through a link, unless the link is
    one of the system's own names of an open stream, such as /dev/stdout.

    Raises:
        OSError: the text can't be written.
    """
    is_stream = _STREAM.fullmatch(str(path.absolute())) is not None
    if not is_stream and not _is_special(path):
        write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8", newline=""), mode=SHARED)
        return
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | (0 if is_stream else os.O_NOFOLLOW))
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        about = os.fstat(handle)
        if not is_stream and (stat.S_ISREG(about.st_mode) or about.st_uid not in (0, os.getuid())):
            raise PermissionError("a device or pipe of another user")
        file.write(text)


def _is_special(path: Path) -> bool:
    """Return whether the path itself is a device, pipe or socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode))
