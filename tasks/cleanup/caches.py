"""Functions that find caches: decoded datasets, datasets and outputs of teachers in the store, their local copies, and
checkpoints.

The stored outputs of a teacher are called its knowledge. Every cache can be rebuilt, but rebuilding takes time.

This module imports neither torch nor prefect.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdmodels.files.folders import DECODED_LOCK, cache_folder, folder_bytes
from kdmodels.run_status import RunStatus
from tasks import tracking
from tasks.results import DATA, KNOWLEDGE
from tasks.tracking.tags import Tag

Kind = Literal["decoded data", "knowledge", "stored data", "downloaded knowledge", "downloaded data", "checkpoints"]


@dataclass(frozen=True)
class Cache:
    """A cache that can be rebuilt. A cache is either a local folder, or a folder in the artifacts of a run.

    Attributes:
        bytes: Size of the cache in bytes.
        used: Time of the last use, in ms since 1970.
        folder: Local folder of the cache. For a folder in the artifacts of a run, the value is None.
        run_id: Id of the run. For a local folder, the value is None.
    """

    kind: Kind
    name: str
    bytes: int
    used: float
    folder: Path | None = None
    run_id: str | None = None


def decoded() -> list[Cache]:
    """Return the decoded datasets of this machine. All tracking stores share these datasets.

    The time of the last use is the time when a command last read the dataset.
    """
    folders = sorted((cache_folder() / "decoded").glob("*/"))
    listed = [in_folder("decoded data", folder) for folder in folders]
    return [cache for cache in listed if cache.bytes]  # the empty lock file of deleted data remains


def checkpoints() -> list[Cache]:
    """Return the folders of checkpoints that this machine has for the current tracking store."""
    return [in_folder("checkpoints", folder) for folder in sorted(tracking.machine_folder("checkpoints").glob("*/"))]


def copies() -> list[Cache]:
    """Return the copies of teachers' knowledge that this machine has downloaded from the current tracking store.

    The name of a copy is the id of the teacher's run. The time of the last use is the time when a student last read the
    copy.
    """
    return [in_folder("downloaded knowledge", folder) for folder in sorted(tracking.copies_folder().glob("*/"))]


def downloaded_data() -> list[Cache]:
    """Return the copies of prepared datasets that this machine has downloaded from the current tracking store."""
    return [in_folder("downloaded data", folder) for folder in sorted(tracking.machine_folder("data").glob("*/"))]


def stored_data(runs: Sequence[tracking.Run]) -> list[Cache]:
    """Return a cache for each run in `runs` that stores prepared datasets.

    The time of the last use is the end of the last comparison in `runs` that belongs to the same experiment. While a
    comparison of any experiment runs, the time is infinite, because its workers may read the data.
    """
    comparisons = [run for run in runs if run.kind in tracking.PARENTS]
    is_read = any(run.end is None for run in comparisons)
    used: dict[str, float] = {}
    for run in comparisons:
        used[run.experiment] = max(used.get(run.experiment, 0), math.inf if is_read else run.end or 0)
    return [
        Cache("stored data", f"of {run.name}", size, used[run.experiment], run_id=run.run_id)
        for run in comparisons
        if Tag.STORED_DATA in run.tags and (size := tracking.folder_bytes(run.run_id, DATA))
    ]


def knowledge(runs: Sequence[tracking.Run]) -> list[Cache]:
    """Return a cache for each finished teacher in `runs` whose outputs are stored.

    The time of the last use is the time when the last run of the teacher or its students ended. While a student runs,
    the time is infinite.
    """
    used: dict[str, float] = {}
    for run in runs:
        if key := run.params.get("teacher"):
            used[key] = max(used.get(key, 0), math.inf if run.end is None else run.end)
    return [
        Cache("knowledge", f"of {run.name}", size, max(run.end or 0, used.get(run.key or "", 0)), run_id=run.run_id)
        for run in runs
        if run.kind == "teacher"
        and run.status == RunStatus.FINISHED
        and (size := tracking.folder_bytes(run.run_id, KNOWLEDGE))
    ]


def in_folder(kind: Kind, folder: Path) -> Cache:
    """Return the cache in a folder, with its current size and time of last use: both 0 if the folder was removed."""
    used = 0.0
    with suppress(FileNotFoundError):  # another process removed the folder or a file in the folder
        for path in folder.iterdir():
            if path.name != DECODED_LOCK:
                used = max(used, path.stat().st_mtime * 1000)
    return Cache(kind, folder.name, folder_bytes(folder), used, folder=folder)
