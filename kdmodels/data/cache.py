"""The cache of decoded data.

The user's cache folder holds one folder per source and decoding settings. If the files of a source change, the source's
folder is outdated.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from kdmodels.errors import UserError
from kdmodels.files.atomic import sync
from kdmodels.files.folders import DECODED_LOCK, cache_folder, private_folder
from kdmodels.versions import VERSIONS

LAYOUT = 1  # version of the file format; increase it when the format changes


def cached(place: Iterable[object], manifest: object, produce: Callable[[Path], None]) -> Path:
    """Return the folder with a source's decoded files. If the files are missing or outdated, produce them first.

    Only one process at a time produces the files. The folder appears completely or not at all. If the source has
    changed, the outdated folder is deleted.

    Args:
        place: Values that identify the source and the settings of the decoding, such as the size of the images.
        manifest: A JSON-serialisable value that changes when the source's files change.
        produce: A function that writes the decoded files into an empty folder. Its argument is the folder.

    Raises:
        UserError: The cache folder can't be written.
    """
    root = cache_folder() / "decoded" / _digest([str(part) for part in place])
    wanted = root / _digest([manifest, VERSIONS["data"], LAYOUT])
    try:
        private_folder(root)
        with FileLock(root / DECODED_LOCK, mode=0o600):
            if not wanted.is_dir():
                for folder in root.iterdir():
                    if folder.is_dir():
                        shutil.rmtree(folder)
                _produce(root, wanted, produce)
            os.utime(wanted)  # `kd gc` reads the time of the last use
    except OSError as error:
        raise UserError(
            f"{root}: can't store the decoded images: {error.strerror or error}. Allowed: a writable cache folder with "
            "enough free space, set by $XDG_CACHE_HOME"
        ) from error
    return wanted


def _produce(root: Path, wanted: Path, produce: Callable[[Path], None]) -> None:
    partial = Path(tempfile.mkdtemp(dir=root, prefix="partial-"))
    try:
        produce(partial)
        for path in [*partial.rglob("*"), partial]:
            path.chmod(0o700 if path.is_dir() else 0o600)
            sync(path)
        partial.rename(wanted)
        sync(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digest(value: object) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:32]
