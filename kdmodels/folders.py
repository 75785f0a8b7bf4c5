"""Where this machine keeps what can be made again, and where the files that an experiment names are looked for."""

import errno
import os
import stat
from pathlib import Path

from kdmodels.errors import UsageError

DECODED_LOCK = "lock"  # in each folder of decoded data


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/kdflow`, or `~/.cache/kdflow`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdflow"


def find_path(word: str, folder: Path | None, field: str, allowed: str) -> Path:
    """The path as it is, or below the data's folder.

    Raises:
        UsageError: it exists at neither.
    """
    try:
        path = Path(word).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{field}: {word}: there is no such user's folder; allowed: {allowed}") from error
    places = [path.absolute(), *([] if folder is None or path.is_absolute() else [(folder / path).absolute()])]
    for place in places:
        if os.path.exists(place):  # False, not an error, for a name that no system allows
            return place
    raise UsageError(f"{field}: {word}: there is no {' and no '.join(map(str, places))}; allowed: {allowed}")


def private_folder(folder: Path) -> Path:
    """Make a folder, and those above it that are missing, for this user alone.

    Of a folder below the cache, the cache itself is checked too.

    Raises:
        OSError: the folder can't be made, belongs to somebody else, or others may write to it.
    """
    cache = cache_folder()
    if cache in folder.parents:
        private_folder(cache)
    if not folder.parent.exists():
        private_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask
    except FileExistsError:
        _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    about, link = folder.stat(), folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    if {about.st_uid, link.st_uid} != {os.getuid()}:
        problem = f"{folder} belongs to another user; delete it, or name another place by $XDG_CACHE_HOME"
        raise PermissionError(errno.EPERM, problem, str(folder))
    if about.st_mode & 0o022:
        problem = f"other users may write to {folder} (mode {stat.S_IMODE(about.st_mode):o}); delete it"
        raise PermissionError(errno.EPERM, problem, str(folder))
    cache = cache_folder()
    if about.st_mode & 0o077 and cache in (folder, *folder.parents):  # made by an earlier version
        folder.chmod(0o700)
