"""The checks that `kd doctor` runs on this machine."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from prefect.client.orchestration import get_client
from pydantic import BaseModel

from flows.services import doctor_servers
from flows.services.dead_runs import dead_runs
from flows.services.doctor_servers import Finding
from flows.services.prefect_client import has_persistent_server, persistent_client
from flows.services.prefect_health import answers
from flows.services.prefect_server import bind, running_server
from flows.services.up_state import up_state
from kdmodels.errors import UserError, redacted
from kdmodels.files.folders import cache_folder
from kdmodels.files.temporary import orphans
from tasks import tracking
from tasks.cleanup import caches, leftovers
from tasks.tracking.health import embedded_file, examine

FREE_GB = 1.0  # minimum free disk space. A run of mnist writes about 10 MB; the Python environment takes 5.5 GB
LONG_HOURS = 24  # a run that has been running for this many hours is reported
STALE_DAYS = 30  # a cache that has not been used for this many days is reported
MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NAMED_LIBRARIES = ("torch", "mlflow", "prefect", "fastapi", "sqlalchemy")


class Check(BaseModel):
    """The result of one check.

    The field `ok` is None if the result is information for the user and not an error. The field `remedy` is None if the
    user need not act.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str | None


NOTHING = Finding(True, "none")


def checks() -> list[Check]:
    """Run every check. If a check fails, the other checks still run."""
    return [check(name) for name in CHECKS]


def check(name: str) -> Check:
    """Run one check.

    Args:
        name: A key of `CHECKS`.
    """
    try:
        finding = CHECKS[name]()
    except Exception as error:  # every error is reported as the result of the check
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        finding = Finding(False, " ".join(message.split()))
    remedy = finding.remedy and redacted(finding.remedy)
    return Check(name=name, ok=finding.ok, detail=redacted(finding.detail), remedy=remedy)


def check_port(port: int, option: str) -> Finding:
    """Check that a port is free.

    Args:
        port: Port of the loopback address.
        option: Command-line option that changes the port.
    """
    if up_state():
        return Finding(True, "kd up runs already")
    try:
        bind(port).close()
    except UserError:
        return Finding(None, "taken", f"choose another: {option}")
    return Finding(True, "free")


def _check_libraries() -> Finding:
    """Compare installed versions with the project's requirements.

    The requirements limit the versions of fastapi and SQLAlchemy, because newer versions break Prefect's server.
    """
    versions, mismatches = [], []
    python = f"Python {sys.version.split()[0]}"
    for requirement in map(Requirement, requires("kdflow") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not requirement.specifier.contains(installed, prereleases=True):
            mismatches.append(f"{requirement.name} {installed}, required {requirement.specifier}")
        if requirement.name in NAMED_LIBRARIES:
            versions.append(f"{requirement.name} {installed}")
    if mismatches:
        remedy = "install requirements.lock into a fresh environment: make run"
        return Finding(False, f"{python}; {'; '.join(mismatches)}", remedy)
    return Finding(True, f"{python}, {', '.join(versions)}")


def _check_store() -> Finding:
    detail = examine()
    if embedded_file() or not (uri := tracking.configure()).startswith("http"):
        return Finding(True, detail)
    finding = doctor_servers.mlflow_server(uri)
    return finding._replace(detail=f"{detail}, {finding.detail}")


def _check_prefect() -> Finding:
    if not has_persistent_server():
        return Finding(None, "no server runs; each run starts a temporary server", "for schedules and the UI: kd up")
    with running_server() as server:
        url = server.url
        if not answers(url):
            return Finding(False, f"no answer at {url}", "start it, or unset PREFECT_API_URL and the profile's")
        server.wait_ready()
        with get_client(sync_client=True) as client:
            return doctor_servers.prefect_server(url, client.api_version())


def _check_worker() -> Finding:
    if not has_persistent_server():
        return NOTHING
    with running_server() as server:
        server.wait_ready()
        with get_client(sync_client=True) as client:
            return doctor_servers.prefect_worker(client)


def _check_prefect_runs() -> Finding:
    if finding := _finding_without_store():
        return finding
    with persistent_client() as client:
        dead = dead_runs(client) if client else []
    if not dead:
        return NOTHING
    return Finding(None, f"Running, but their process has ended: {', '.join(map(str, dead))}", "kd doctor --fix")


def _check_mnist() -> Finding:
    folder = os.environ.get("KD_DATA")
    root = Path(folder) if folder else cache_folder()
    raw = root / "MNIST" / "raw"
    missing = [name for name in MNIST if not (raw / name).is_file()]
    if not missing:
        return Finding(True, str(raw))
    if folder is None:
        detail = f"not at {raw}; kd run mnist downloads it"
        return Finding(None, detail, "offline: name the folder of MNIST/raw in KD_DATA")
    detail = f"KD_DATA={folder}: {raw} has no {', '.join(missing)}"
    return Finding(False, detail, "correct KD_DATA, or unset it to download")


def _check_compute() -> Finding:
    return Finding(True, f"CPU, {os.cpu_count()} cores: the threads of an experiment whose file names no `threads`")


def _check_disk() -> Finding:
    database = embedded_file()
    wanted = database.parent if database else Path.cwd()
    folders = {next(folder for folder in (wanted, *wanted.parents) if folder.exists()), Path(tempfile.gettempdir())}
    free_gb = {folder: shutil.disk_usage(folder).free / 1e9 for folder in sorted(folders)}
    detail = ", ".join(f"{gigabytes:.1f} GB free at {folder}" for folder, gigabytes in free_gb.items())
    if min(free_gb.values()) < FREE_GB:
        return Finding(False, detail, f"free disk space: at least {FREE_GB:g} GB is needed")
    return Finding(True, detail)


def _check_unended_runs() -> Finding:
    if finding := _finding_without_store():
        return finding
    if abandoned := tracking.abandoned():
        remedy = "go on: kd run; end them: kd doctor --fix"
        return Finding(None, f"their process has ended: {_names(abandoned)}", remedy)
    limit = (time.time() - LONG_HOURS * 3600) * 1000
    if not (long_runs := [run for run in tracking.running() if run.start < limit]):
        return NOTHING
    remedy = "if no process works on them any more: mlflow runs delete --run-id ID"
    return Finding(None, f"RUNNING for over {LONG_HOURS} hours: {_names(long_runs)}", remedy)


def _check_checkpoints() -> Finding:
    if finding := _finding_without_store():
        return finding
    if not (kept := leftovers.kept()):
        return NOTHING
    megabytes = sum(training.megabytes for training in kept)
    detail = f"{_counted(len(kept), 'training')}, {megabytes:.1f} MB, in {kept[0].folder.parent}"
    if orphaned := [training for training in kept if training.orphaned]:
        orphaned_megabytes = sum(training.megabytes for training in orphaned)
        detail += f"; {len(orphaned)} of them, {orphaned_megabytes:.1f} MB, have no run to go on with"
        return Finding(None, detail, "kd doctor --fix deletes them")
    return Finding(True, detail)


def _check_orphaned_folders() -> Finding:
    if not (folders := orphans()):
        return NOTHING
    sizes = ", ".join(f"{orphan.folder} ({orphan.megabytes:.1f} MB of {orphan.content})" for orphan in folders)
    return Finding(None, f"their process has ended: {sizes}", "kd doctor --fix deletes them")


def _check_decoded_data() -> Finding:
    return _check_caches(caches.decoded(), "dataset")


def _check_knowledge() -> Finding:
    if finding := _finding_without_store():
        return finding
    return _check_caches(caches.knowledge(tracking.every_run()), "teacher")


def _check_caches(existing: Sequence[caches.Cache], owner: str) -> Finding:
    if not existing:
        return NOTHING
    limit = (time.time() - STALE_DAYS * 86_400) * 1000
    stale = [cache for cache in existing if cache.used < limit]
    parents = {str(cache.folder.parent) for cache in existing if cache.folder}
    detail = ", ".join([_counted(len(existing), owner), _megabytes(existing), *(f"in {parent}" for parent in parents)])
    if not stale:
        return Finding(True, detail)
    detail += f"; {len(stale)} of them, {_megabytes(stale)}, unused for {STALE_DAYS} days"
    return Finding(None, detail, f"kd gc --older-than {STALE_DAYS}d deletes them")


def _finding_without_store() -> Finding | None:
    """Return the result of a check of recorded runs if the runs cannot be read. Otherwise, return None.

    The runs cannot be read if the tracking store does not exist or cannot be used.
    """
    database = embedded_file()
    if database and not database.exists():
        return NOTHING
    try:
        tracking.configure()
    except UserError:
        return Finding(None, "not known: the tracking store can't be used")
    return None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _names(runs: Sequence[tracking.Run]) -> str:
    return ", ".join(f"{run.name} ({run.run_id})" for run in runs)


def _megabytes(existing: Sequence[caches.Cache]) -> str:
    return f"{sum(cache.bytes for cache in existing) / 1e6:.1f} MB"


CHECKS: dict[str, Callable[[], Finding]] = {
    "libraries": _check_libraries,
    "tracking store": _check_store,
    "Prefect server": _check_prefect,
    "Prefect worker": _check_worker,
    "mnist": _check_mnist,
    "compute": _check_compute,
    "disk": _check_disk,
    "unended runs": _check_unended_runs,
    "Prefect runs": _check_prefect_runs,
    "checkpoints": _check_checkpoints,
    "orphaned folders": _check_orphaned_folders,
    "decoded data": _check_decoded_data,
    "knowledge": _check_knowledge,
    "port 4200": lambda: check_port(4200, "kd up --port"),
    "port 5000": lambda: check_port(5000, "kd up --mlflow-port, kd ui --port"),
}
