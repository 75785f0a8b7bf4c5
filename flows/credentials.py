"""Passwords that kdflow generates for its own servers, each in a file that only its owner can read."""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from kdmodels.errors import UserError


def read_or_create(path: Path) -> str:
    """Return the password in the file. If there is no file, create one with a random password.

    Commands that start at the same time get the same password: the first complete file stays.

    Raises:
        UserError: another user owns the file or may read it.
    """
    with contextlib.suppress(FileNotFoundError):
        return _read_private(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, complete = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 600
    try:
        with open(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another command was faster
            os.link(complete, path)
    finally:
        os.unlink(complete)
    return _read_private(path)


def _read_private(path: Path) -> str:
    with open(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise UserError(
                f"{path}: other users may know this password: its owner is user {status.st_uid} and its mode "
                f"{status.st_mode & 0o777:o}, allowed: your own file with mode 600; delete it to get a new password"
            )
        return file.read()
