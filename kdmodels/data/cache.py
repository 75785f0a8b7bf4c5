"""What has been decoded once, kept in the user's cache folder until its files change."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from kdmodels.durable import sync
from kdmodels.errors import UserError
from kdmodels.folders import DECODED_LOCK, cache_folder, private_folder
from kdmodels.versions import VERSIONS

LAYOUT = 1  # of the folders' files: raise it when they are written in another form


def cached(place: Iterable[object], manifest: object, produce: Callable[[Path], None]) -> Path:
    """The folder of a place's files, produced unless they stand there already for the same manifest.

    One process at a time produces them; they appear whole or not at all, and replace those of an earlier manifest.

    Args:
        place: what they are of, and in which form. manifest: JSON-able, what changes when the originals do.
        produce: writes the files into the folder that it is given.

    Raises:
        UserError: the cache folder can't be written.
    """
    root = cache_folder() / "decoded" / _digest([str(part) for part in place])
    wanted = root / _digest([manifest, VERSIONS["data"], LAYOUT])
    try:
        private_folder(root)
        with FileLock(root / DECODED_LOCK, mode=0o600):
            if not wanted.is_dir():
                for old in root.iterdir():
                    if old.is_dir():
                        shutil.rmtree(old)
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
            os.utime(wanted)  # when it was used last, which `kd gc` asks
    except OSError as error:
        raise UserError(
            f"{root}: the decoded images can't be kept there: {error.strerror or error}; allowed: a folder that can be "
            "written and has room for them, by $XDG_CACHE_HOME"
        ) from error
    return wanted


def _digest(value: object) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()[:32]
