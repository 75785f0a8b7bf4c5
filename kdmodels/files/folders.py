"""The user's cache folder, private folders, and the search for the files that an experiment names."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from kdmodels.errors import UsageError

DECODED_LOCK = "lock"  # name of the lock file in each folder of decoded data


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/kdflow`, or `~/.cache/kdflow` if the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdflow"


def folder_bytes(folder: Path) -> int:
    """Return the total size in bytes of all files in a folder and its subfolders, or 0 if the folder does not exist.

    Links are not followed. Files that are deleted while the sizes are read do not count.
    """
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(root, name).lstat().st_size
    return size


def find_path(word: str, folder: Path | None, field: str, allowed: str) -> Path:
    """Return the absolute path of an existing file or folder that the user names.

    A relative path is looked up in the current folder, and then in the data folder.

    Args:
        word: The path as the user wrote it.
        folder: The data folder. `None` if there is no data folder.
        field: The field of the experiment, for error messages.
        allowed: A description of the allowed values of the field, for error messages.

    Raises:
        UsageError: The path does not exist.
    """
    try:
        path = Path(word).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{field}: {word}: the user has no home folder. Allowed: {allowed}") from error
    candidates = [path.absolute(), *([] if folder is None or path.is_absolute() else [(folder / path).absolute()])]
    for candidate in candidates:
        if os.path.exists(candidate):  # unlike Path.exists, returns False if the system does not allow the name
            return candidate
    missing = f"{' and '.join(map(str, candidates))} {'does' if len(candidates) == 1 else 'do'} not exist"
    raise UsageError(f"{field}: {word}: {missing}. Allowed: {allowed}")


def private_folder(folder: Path) -> Path:
    """Create a folder that only this user can access, and return the folder.

    Missing parent folders are created in the same way. If the folder exists, its owner and its mode are checked. If the
    folder is inside the cache folder, the cache folder is checked too.

    Raises:
        OSError: The folder can't be created, belongs to another user, or is writable by other users.
    """
    cache = cache_folder()
    if cache in folder.parents:
        private_folder(cache)
    if not folder.parent.exists():
        private_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # regardless of the umask
    except FileExistsError:
        _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    status, link = folder.stat(), folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder))
    if {status.st_uid, link.st_uid} != {os.getuid()}:
        problem = f"{folder} belongs to another user; delete it, or set another cache folder by $XDG_CACHE_HOME"
        raise PermissionError(errno.EPERM, problem, str(folder))
    if status.st_mode & 0o022:
        problem = f"other users may write to {folder} (mode {stat.S_IMODE(status.st_mode):o}); delete it"
        raise PermissionError(errno.EPERM, problem, str(folder))
    cache = cache_folder()
    if status.st_mode & 0o077 and cache in (folder, *folder.parents):  # created by an earlier version of kdflow
        folder.chmod(0o700)
