"""Files that are there whole or not at all, whatever happens to the machine."""

import os
from collections.abc import Callable
from pathlib import Path


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's names, to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """A file that is written beside its place, synced and then renamed; on failure nothing is left of it."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        write(partial)
        sync(partial)
        partial.rename(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return path
