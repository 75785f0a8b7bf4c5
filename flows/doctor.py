"""What a run of kdflow needs on this machine, looked at part by part: what `kd doctor` prints."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from flows import server
from kdmodels.errors import UserError, redacted
from kdmodels.folders import cache_folder

if TYPE_CHECKING:
    from tasks.caches import Cache
    from tasks.tracking import Run

Finding = tuple[bool | None, str, str | None]  # ok (None: neither), what was found, what helps

FREE_GB = 1.0  # a run of mnist leaves some 10 MB, the environment itself has 5.5 GB
LONG_HOURS = 24
STALE_DAYS = 30  # unused for longer than this, a cache is worth a line
MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def checks() -> list[dict[str, Any]]:
    """Look at every part; one that is broken is told and does not hide the others.

    Returns:
        name, ok (None where it is only worth knowing), detail and remedy (None where nothing is to be done).
    """
    return [_checked(name, check) for name, check in CHECKS.items()]


def _checked(name: str, check: Callable[[], Finding]) -> dict[str, Any]:
    try:
        ok, detail, remedy = check()
    except Exception as error:  # whatever it is: finding it out is what the user asked for
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        ok, detail, remedy = False, " ".join(told.split()), None
    return {"name": name, "ok": ok, "detail": redacted(detail), "remedy": remedy and redacted(remedy)}


def _libraries() -> Finding:
    """Those that the project names; fastapi and SQLAlchemy are held back, since newer ones break Prefect's server."""
    found, wrong = [], []
    python = f"Python {sys.version.split()[0]}"
    for requirement in map(Requirement, requires("kdflow") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed}, required {requirement.specifier}")
        if requirement.name in ("torch", "mlflow", "prefect", "fastapi", "sqlalchemy"):
            found.append(f"{requirement.name} {installed}")
    if wrong:
        return False, f"{python}; {'; '.join(wrong)}", "install requirements.lock into a fresh environment: make run"
    return True, f"{python}, {', '.join(found)}", None


def _store() -> Finding:
    from tasks.tracking.health import examine

    return True, examine(), None


def _prefect() -> Finding:
    if server.configured_url() is None and server.up_state() is None:
        return None, "no server runs; a run starts one for itself", "for schedules and its UI: kd up"
    with server.running_server() as running:
        url = running.url
        if not server.answers(url):
            return False, f"no answer at {url}", "start it, or unset PREFECT_API_URL and the profile's"
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:  # it knows of user and password
            theirs = client.api_version()
    ours = version("prefect")
    if theirs != ours:
        return None, f"{url} is Prefect {theirs}, here is {ours}", "use the same version on both sides"
    return True, f"{url}, Prefect {theirs}", None


def _mnist() -> Finding:
    folder = os.environ.get("KD_DATA")
    root = Path(folder) if folder else cache_folder()
    raw = root / "MNIST" / "raw"
    missing = [name for name in MNIST if not (raw / name).is_file()]
    if not missing:
        return True, str(raw), None
    if folder is None:
        return None, f"not at {raw}; kd run mnist downloads it", "offline: name the folder of MNIST/raw in KD_DATA"
    return False, f"KD_DATA={folder}: {raw} has no {', '.join(missing)}", "correct KD_DATA, or unset it to download"


def _compute() -> Finding:
    return True, f"CPU, {os.cpu_count()} cores: the threads of an experiment whose file names no `threads`", None


def _disk() -> Finding:
    from tasks.tracking.health import embedded_file

    database = embedded_file()
    wanted = database.parent if database else Path.cwd()
    places = {next(folder for folder in (wanted, *wanted.parents) if folder.exists()), Path(tempfile.gettempdir())}
    free = {place: shutil.disk_usage(place).free / 1e9 for place in sorted(places)}
    detail = ", ".join(f"{gigabytes:.1f} GB free at {place}" for place, gigabytes in free.items())
    if min(free.values()) < FREE_GB:
        return False, detail, f"make room: {FREE_GB:g} GB is little enough"
    return True, detail, None


def _no_ledger() -> Finding | None:
    """What is told of runs where there is no store to ask; None where there is one, which is ready then."""
    from tasks import tracking
    from tasks.tracking.health import embedded_file

    database = embedded_file()
    if database and not database.exists():
        return True, "none", None
    try:
        tracking.configure()
    except UserError:
        return None, "not known: the tracking store can't be used", None
    return None


def _unended_runs() -> Finding:
    from tasks import tracking

    if (finding := _no_ledger()) is not None:
        return finding
    abandoned = tracking.abandoned()
    if abandoned:
        return None, f"their process is gone: {_named(abandoned)}", "go on: kd run; end them: kd doctor --fix"
    since = (time.time() - LONG_HOURS * 3600) * 1000
    old = [run for run in tracking.running() if run.start < since]
    if not old:
        return True, "none", None
    remedy = "if no process works on them any more: mlflow runs delete --run-id ID"
    return None, f"RUNNING for over {LONG_HOURS} hours: {_named(old)}", remedy


def _named(runs: "list[Run]") -> str:
    return ", ".join(f"{run.name} ({run.run_id})" for run in runs)


def _checkpoints() -> Finding:
    from tasks import leftovers

    if (finding := _no_ledger()) is not None:
        return finding
    kept = leftovers.kept()
    if not kept:
        return True, "none", None
    size, orphaned = sum(each.megabytes for each in kept), [each for each in kept if each.orphaned]
    told = f"of {len(kept)} trainings, {size:.1f} MB, in {kept[0].folder.parent}"
    if orphaned:
        lost = sum(each.megabytes for each in orphaned)
        told += f"; {len(orphaned)} of them, {lost:.1f} MB, have no run to go on with"
        return None, told, "kd doctor --fix deletes them"
    return True, told, None


def _orphans() -> Finding:
    from kdmodels.temporary import orphans

    found = orphans()
    if not found:
        return True, "none", None
    told = ", ".join(f"{orphan.folder} ({orphan.megabytes:.1f} MB of {orphan.what})" for orphan in found)
    return None, f"their process is gone: {told}", "kd doctor --fix deletes them"


def _decoded() -> Finding:
    from tasks import caches

    return _caches(caches.decoded(), "datasets")


def _knowledge() -> Finding:
    from tasks import caches, tracking

    if (finding := _no_ledger()) is not None:
        return finding
    return _caches(caches.knowledge(tracking.every_run()), "teachers")


def _caches(found: "list[Cache]", of: str) -> Finding:
    since = (time.time() - STALE_DAYS * 86_400) * 1000
    stale = [cache for cache in found if cache.used < since]
    if not found:
        return True, "none", None
    places = {str(cache.folder.parent) for cache in found if cache.folder}
    told = f"of {len(found)} {of}, {_megabytes(found)}{''.join(f', in {place}' for place in places)}"
    if not stale:
        return True, told, None
    told += f"; {len(stale)} of them, {_megabytes(stale)}, unused for {STALE_DAYS} days"
    return None, told, f"kd gc --older-than {STALE_DAYS}d deletes them"


def _megabytes(found: "list[Cache]") -> str:
    return f"{sum(cache.bytes for cache in found) / 1e6:.1f} MB"


def _port(port: int, option: str) -> Finding:
    if server.up_state():
        return True, "kd up runs already", None
    try:
        server.bind(port).close()
    except UserError:
        return None, "taken", f"choose another: {option}"
    return True, "free", None


CHECKS: dict[str, Callable[[], Finding]] = {
    "libraries": _libraries,
    "tracking store": _store,
    "Prefect server": _prefect,
    "mnist": _mnist,
    "compute": _compute,
    "disk": _disk,
    "unended runs": _unended_runs,
    "checkpoints": _checkpoints,
    "orphaned folders": _orphans,
    "decoded data": _decoded,
    "knowledge": _knowledge,
    "port 4200": lambda: _port(4200, "kd up --port"),
    "port 5000": lambda: _port(5000, "kd up --mlflow-port, kd ui --port"),
}
