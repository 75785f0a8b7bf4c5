"""Where this machine keeps what can be made again, and where the files that an experiment names are looked for."""

import os
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
