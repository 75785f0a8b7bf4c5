"""What was costly to make and can be made again: decoded data, the teachers' knowledge, checkpoints.

Neither torch nor prefect is imported.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdmodels.folders import DECODED_LOCK, cache_folder
from tasks import tracking
from tasks.results import KNOWLEDGE

Kind = Literal["decoded data", "knowledge", "checkpoints"]


@dataclass(frozen=True)
class Cache:
    """One of them: in a folder, or with the run of a teacher. `used` is when it was used last, in ms since 1970."""

    kind: Kind
    name: str
    bytes: int
    used: float
    folder: Path | None = None
    run_id: str | None = None


def decoded() -> list[Cache]:
    """The datasets that this machine keeps decoded, of all stores; they are used by reading them once a command."""
    found = [in_folder("decoded data", place) for place in sorted((cache_folder() / "decoded").glob("*/"))]
    return [cache for cache in found if cache.bytes]  # of one that was deleted its lock stays


def checkpoints() -> list[Cache]:
    """Those of trainings of this machine and store."""
    return [in_folder("checkpoints", place) for place in sorted(tracking.machine_folder("checkpoints").iterdir())]


def knowledge(runs: Sequence[tracking.Run]) -> list[Cache]:
    """What finished teachers have said, among these runs; it is used by training students, and as long."""
    used: dict[str, float] = {}
    for run in runs:
        if key := run.params.get("teacher"):
            used[key] = max(used.get(key, 0), math.inf if run.end is None else run.end)
    return [
        Cache("knowledge", f"of {run.name}", size, max(run.end or 0, used.get(run.key or "", 0)), run_id=run.run_id)
        for run in runs
        if run.kind == "teacher" and run.status == "FINISHED" and (size := tracking.folder_bytes(run.run_id, KNOWLEDGE))
    ]


def in_folder(kind: Kind, folder: Path) -> Cache:
    """The one that is there now."""
    try:
        dated = [_about(path)[1] for path in folder.iterdir() if path.name != DECODED_LOCK]
        sizes = [_about(path)[0] for path in folder.rglob("*") if path.is_file()]
    except FileNotFoundError:  # a folder that was removed meanwhile
        dated, sizes = [], []
    return Cache(kind, folder.name, sum(sizes), max(dated, default=0), folder=folder)


def _about(path: Path) -> tuple[int, float]:
    """Its bytes, and when it was written; nothing of one that was removed since it was listed."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return 0, 0
    return about.st_size, about.st_mtime * 1000
