"""Where torch keeps compiled code: in the user's cache folder.

Torch's default is a folder in the temporary directory whose name anybody can tell, and prepare with code of theirs.
Only this file knows torch's names of these folders.
"""

import os
import tempfile
from pathlib import Path

from kdmodels.errors import UserError
from kdmodels.folders import cache_folder, private_folder

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_OURS = os.path.join("kdflow", "compiled")


def name_folder() -> Path:
    """Name the folder to torch and to child processes, and return it; nothing is made.

    A folder that the user has named is kept. What torch itself writes into the variable is not the user's.
    """
    default = os.path.join(tempfile.gettempdir(), "torchinductor_")
    named = os.environ.get(VARIABLE, default)
    if named.startswith(default) or named.endswith(_OURS):
        os.environ[VARIABLE] = named = str(cache_folder() / "compiled")
    return Path(named)


def prepare_folder() -> None:
    """Make the folder for this user alone, and have torch keep nothing elsewhere; call it before anything is compiled.

    Raises:
        UserError: the folder can't be made, or somebody else can write to it.
    """
    folder = name_folder()
    try:
        private_folder(folder)
    except OSError as error:
        raise UserError(
            f"compile: true: {folder} can't hold compiled code: {error.strerror}; allowed: a folder that only this "
            "user can write to, by $XDG_CACHE_HOME"
        ) from error
    from torch._inductor import codecache  # takes a second to import

    # Precompiled headers go to torch's default whatever the variable says, and are used by every compilation.
    codecache._HEADER_DIR = str(folder / "precompiled_headers")
    codecache._HEADER_LOCK_DIR = str(folder / "precompiled_headers" / "locks")
