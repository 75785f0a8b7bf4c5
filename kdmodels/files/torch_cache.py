"""The folder of torch's compiled code, inside the user's cache folder.

By default, torch uses a folder with a predictable name in the temporary directory, where any user could place code.
This module changes the folder, using private names of torch. No other module uses these names.
`tests/kdmodels/files/test_torch_cache.py` fails if torch changes the names.
"""

import os
import tempfile
from pathlib import Path

from kdmodels.errors import UserError
from kdmodels.files.folders import cache_folder, private_folder

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_OURS = os.path.join("kdflow", "compiled")


def name_folder() -> Path:
    """Set torch's environment variable for the folder of compiled code, and return the folder.

    The folder is inside the cache folder and is not created. If the user has set the variable to another folder, the
    user's folder is kept. If torch has set the variable to its own default folder, the variable is replaced. Child
    processes inherit the variable.
    """
    default = os.path.join(tempfile.gettempdir(), "torchinductor_")
    named = os.environ.get(VARIABLE, default)
    if named.startswith(default) or named.endswith(_OURS):
        os.environ[VARIABLE] = named = str(cache_folder() / "compiled")
    return Path(named)


def prepare_folder() -> None:
    """Create the folder for compiled code, which only this user can access, and make torch use only this folder.

    Call this function before compiling.

    Raises:
        UserError: The folder can't be created, or is writable by other users.
    """
    folder = name_folder()
    try:
        private_folder(folder)
    except OSError as error:
        raise UserError(
            f"compile: true: {folder} can't hold compiled code: {error.strerror}. Allowed: a folder that only this "
            "user can write to, set by $XDG_CACHE_HOME"
        ) from error
    from torch._inductor import codecache  # noqa: PLC0415 - takes a second, and only `compile: true` needs it

    # Every compilation uses precompiled headers. For the folder of these headers, torch ignores the variable.
    headers = folder / "precompiled_headers"
    codecache._HEADER_DIR = str(headers)  # noqa: SLF001 - has no public setting
    codecache._HEADER_LOCK_DIR = str(headers / "locks")  # noqa: SLF001 - has no public setting
