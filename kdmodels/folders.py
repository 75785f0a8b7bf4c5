"""Where this machine keeps what can be made again."""

import os
from pathlib import Path

DECODED_LOCK = "lock"  # in each folder of decoded data


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/kdflow`, or `~/.cache/kdflow`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdflow"
