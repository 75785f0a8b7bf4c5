"""The settings of the team stack: the file `.env` beside `docker-compose.yml`, which holds passwords."""

import os
import re
import secrets
from pathlib import Path

from kdmodels.errors import UserError
from kdmodels.files.atomic import write_whole

EMPTY = re.compile(r"^([A-Z0-9_]+)=$", re.MULTILINE)  # a setting without a value, which gets a random secret


def write_settings(folder: Path) -> Path:
    """Copy `.env.example` to `.env` in a folder, and fill the empty settings with random secrets. Return the new file.

    Only the user can read the file.

    Raises:
        UserError: The folder has no `.env.example`, or `.env` exists already.
    """
    example, file = folder / ".env.example", folder / ".env"
    if not example.is_file():
        raise UserError(f"{example}: does not exist. Allowed: the folder with kdflow's docker-compose.yml")
    if os.path.lexists(file):  # also true for a broken link
        raise UserError(f"{file}: exists already, and the stack may use its passwords. Delete the file to get new ones")
    text = EMPTY.sub(lambda match: f"{match[0]}{secrets.token_urlsafe(32)}", example.read_text(encoding="utf-8"))
    return write_whole(file, lambda partial: partial.write_text(text, encoding="utf-8"))
