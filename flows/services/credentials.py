"""A function for the passwords of kdflow's servers. Each password is in a file that only its owner can read."""

import contextlib
import os
import secrets
from pathlib import Path

from kdmodels.errors import UserError
from kdmodels.files.atomic import write_once


def read_or_create(path: Path) -> str:
    """Return the password in the file. If the file does not exist, create the file with a random password.

    Commands that start at the same time get the same password, because the first complete file is never replaced.

    Raises:
        UserError: Another user owns the file, or other users have permissions on the file.
    """
    with contextlib.suppress(FileNotFoundError):
        return _read_private(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_once(path, secrets.token_urlsafe(32))
    return _read_private(path)


def _read_private(path: Path) -> str:
    with open(path) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise UserError(
                f"{path}: other users may know this password: expected your own file with mode 600, got a file of user "
                f"{status.st_uid} with mode {status.st_mode & 0o777:o}. Delete it to get a new password"
            )
        return file.read()
